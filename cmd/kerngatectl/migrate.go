package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/check"
	"github.com/kerngate/kerngate/userspace/look/shadow"
)

// source is where Ingresses are read from: files, standard input or a cluster.
type source struct {
	of    cluster
	judge check.Options
}

func (s *source) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.judge.Class, "ingress-class", "", "read only Ingresses of this class; empty: all Ingresses")
	c.Flags().StringVar(&s.judge.IngressNginx, "ingress-nginx-configmap", "", "ConfigMap of ingress-nginx's controller, as NAMESPACE/NAME; empty: the one that the manifests contain")
	c.Flags().BoolVar(&s.of.asked, "cluster", false, "read the Ingresses of all namespaces of a cluster, with kubectl")
	c.Flags().StringVar(&s.of.kubeconfig, "kubeconfig", "", "kubeconfig `file` for kubectl, with --cluster; empty: kubectl's default")
	c.Flags().StringVar(&s.of.context, "context", "", "`name` of the kubeconfig context for kubectl, with --cluster; empty: the current one")
}

func (s *source) args(c *cobra.Command, args []string) error {
	if len(args) != 1 && !s.of.asked || len(args) > 0 && s.of.asked {
		return usageError{fmt.Errorf("name one file or folder, - for standard input, or --cluster; see %s --help", c.CommandPath())}
	}
	return nil
}

func (s *source) read(ctx context.Context, e env, args []string) (*check.Checker, error) {
	checker := check.New(s.judge)
	if s.of.asked {
		return checker, s.of.check(ctx, checker, s.judge.IngressNginx)
	}
	if err := checkAll(e, checker, args[0]); err != nil {
		return checker, unreadError{err}
	}
	return checker, nil
}

func newMigrate(e env, o *options) *cobra.Command {
	var from source
	c := &cobra.Command{
		Use:   "migrate FILE|DIR|-|--cluster",
		Short: "Plan the move from ingress-nginx to Kerngate",
		Long: `migrate reads manifests, or a cluster, and prints a plan: which Ingresses are served as they
are, which flags the agent should have instead of those of ingress-nginx's controller and its
ConfigMap, and what to apply, in which order. It changes nothing.

If the manifests contain ingress-nginx's ConfigMap or its Deployment, the plan uses both.

The plan is printed as Markdown, or with -o html, json or yaml in another format.`,
		Example: `  kerngatectl migrate manifests/
  kerngatectl migrate --cluster --ingress-nginx-configmap ingress-nginx/ingress-nginx-controller -o html > plan.html
  kubectl get ingress,configmap,deployment -A -o yaml | kerngatectl migrate -`,
		Args: from.args,
		RunE: func(c *cobra.Command, args []string) error {
			checker, unread := from.read(c.Context(), e, args)
			if unread != nil && !errors.As(unread, new(unreadError)) {
				return unread
			}
			plan := checker.Plan()
			return errors.Join(unread, showDocument(e.stdout, o, plan, plan.Document()))
		},
	}
	from.flags(c)
	c.AddCommand(newMigrateCopy(e), newMigrateShadow(e, o))
	return c
}

// showDocument prints what people read as a page: Markdown unless they ask for another form.
func showDocument(w io.Writer, o *options, value any, d check.Document) error {
	if o.output == "html" {
		return d.HTML(w)
	}
	return show(w, o, value, d.Markdown)
}

func newMigrateCopy(e env) *cobra.Command {
	var from source
	var to, host string
	c := &cobra.Command{
		Use:   "copy FILE|DIR|-|--cluster",
		Short: "Print copies of Ingresses for another class",
		Long: `copy prints a manifest for each Ingress: the same rules under another name, for another class, so
that Kerngate serves what ingress-nginx goes on serving. Copies have only the annotations of
ingress-nginx and Kerngate, so that cert-manager and external-dns do not act on a host twice. It
changes nothing: apply the manifests with kubectl.`,
		Example: `  kerngatectl migrate copy --cluster --to kerngate > copies.yaml
  kerngatectl migrate copy manifests/ --host shop.example.com | kubectl apply -f -`,
		Args: from.args,
		RunE: func(c *cobra.Command, args []string) error {
			checker, err := from.read(c.Context(), e, args)
			if err != nil {
				return err
			}
			text, err := checker.Copies(to, host)
			if err != nil {
				return err
			}
			_, err = io.WriteString(e.stdout, text)
			return err
		},
	}
	from.flags(c)
	c.Flags().StringVar(&to, "to", "kerngate", "`class` of the copies")
	c.Flags().StringVar(&host, "host", "", "copy only Ingresses that have a rule for this `host`; empty: all Ingresses")
	return c
}

// errDiffers is the outcome of a shadow run that CI is to stop at.
var errDiffers = errors.New("the answers differ")

func newMigrateShadow(e env, o *options) *cobra.Command {
	var from, to, host string
	run := shadow.Options{}
	c := &cobra.Command{
		Use:   "shadow HAR|LOG|-",
		Short: "Send recorded requests to two ingress controllers and compare the responses",
		Long: `shadow reads requests from a HAR file (as browsers save them) or an access log (of nginx or of
Kerngate), sends each to the old and to the new ingress controller, and compares status, some
headers and a hash of the body. Of Set-Cookie only the names are compared.

It sends only GET and HEAD, unless --methods says otherwise, and neither Cookie nor Authorization
without --credentials. Redirects are not followed. Nothing is sent unless both --old and --new are
set. The exit status is 1 if any responses differ, or if no request was sent.`,
		Example: `  kerngatectl migrate shadow access.log --old https://192.0.2.10 --new https://192.0.2.20 --host shop.example.com
  kerngatectl migrate shadow session.har --old https://192.0.2.10 --new https://192.0.2.20:8443 --twice`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("shadow takes one file, a HAR or an access log, or - for standard input")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			if run.Old, err = url.Parse(from); err == nil {
				run.New, err = url.Parse(to)
			}
			if err == nil {
				err = run.Check()
			}
			if err != nil {
				return usageError{err}
			}
			in := e.stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			requests, unread, err := shadow.Read(in, host)
			if err != nil {
				return err
			}
			report, err := shadow.Run(c.Context(), requests, run)
			if shown := show(e.stdout, o, report, func(w io.Writer) { shadowTable(w, report, unread) }); err == nil {
				err = shown
			}
			switch {
			case err != nil:
				return err
			case report.Sent == 0:
				return fmt.Errorf("no request was sent, so nothing was compared: the input has only requests by other methods (%s); name those to send with --methods, or replay a log that has GET requests", methodsOf(requests))
			case report.Differing > 0:
				return errDiffers
			}
			return nil
		},
	}
	c.Flags().StringVar(&from, "old", "", "`URL` of the old ingress controller: scheme and address, such as https://192.0.2.10")
	c.Flags().StringVar(&to, "new", "", "`URL` of the new one")
	c.Flags().StringVar(&host, "host", "", "`host` of log lines that do not name one")
	c.Flags().StringSliceVar(&run.Methods, "methods", nil, "methods to send, separated by commas; others than GET and HEAD change data, twice; empty: GET and HEAD")
	c.Flags().StringSliceVar(&run.Headers, "compare-headers", []string{"Location", "Content-Type", "Cache-Control", "Content-Encoding", "Set-Cookie", "WWW-Authenticate", "Strict-Transport-Security", "Access-Control-Allow-Origin"}, "headers of responses to compare, separated by commas")
	c.Flags().Float64Var(&run.PerSecond, "rate", 5, "requests per second that each of the two gets")
	c.Flags().IntVar(&run.AtOnce, "parallel", 4, "largest number of requests in flight to each")
	c.Flags().BoolVar(&run.Twice, "twice", false, "ask the old one again where responses differ, and do not report what differs between its own responses")
	c.Flags().BoolVar(&run.Credentials, "credentials", false, "also send Cookie and Authorization, if the HAR file contains them")
	c.Flags().BoolVar(&run.Insecure, "insecure", false, "do not verify certificates")
	c.Flags().Int64Var(&run.MaxBody, "compare-bytes", 16<<20, "how much of a response body to compare, in bytes")
	c.Flags().DurationVar(&run.Timeout, "request-timeout", 10*time.Second, "longest time to wait for a response")
	return c
}

// methodsOf names the methods of requests, each once.
func methodsOf(requests []shadow.Request) string {
	var methods []string
	for _, r := range requests {
		if !slices.Contains(methods, r.Method) {
			methods = append(methods, r.Method)
		}
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

func shadowTable(w io.Writer, r shadow.Report, unread int) {
	var cells [][]string
	for _, d := range r.Differences {
		cells = append(cells, []string{d.Request, d.What, d.Old, d.New})
	}
	if len(cells) > 0 {
		columns(w, "REQUEST WHAT OLD NEW", cells)
		fmt.Fprintln(w)
	}
	text := fmt.Sprintf("%d requests sent to both, %d with differences", r.Sent, r.Differing)
	if r.Skipped > 0 {
		text += fmt.Sprintf("; %d skipped by their method (--methods)", r.Skipped)
	}
	if unread > 0 {
		text += fmt.Sprintf("; %d lines are no requests", unread)
	}
	fmt.Fprintln(w, strings.TrimSpace(text))
}
