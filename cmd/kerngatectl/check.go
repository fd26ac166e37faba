package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/look/check"
	"github.com/kerngate/kerngate/userspace/manifest"
)

// errRefused is the outcome of a check that CI is to stop at.
var errRefused = errors.New("something is not served as written")

// unreadError is about input that could not be judged: exit status 3.
type unreadError struct{ err error }

func (e unreadError) Error() string { return e.err.Error() }
func (e unreadError) Unwrap() error { return e.err }

func newCheck(e env, o *options) *cobra.Command {
	var all, sarif bool
	var judge check.Options
	var of cluster
	command := &cobra.Command{
		Use:   "check FILE|DIR|-|--cluster",
		Short: "Check which Ingresses of manifests would be served, and what would differ",
		Long: `check reads manifests from a file, a folder and its subfolders, or standard input, and
checks them as the agent would: hosts, paths, Services and annotations of Ingresses,
IngressClasses, and ingress-nginx's own ConfigMaps. It also checks annotations of
ingress-nginx in HelmReleases, chart values and patches.

It prints one line for each Ingress:

  served        it is served as written
  served, but   a part is not served as written, or behaves differently than in ingress-nginx
  closed        every request gets 503, because an access restriction cannot be enforced
  not served    nothing of it is published

After that it prints the findings, with file and line. The verdict of a finding is the
reason that the agent's event would have. For an annotation of ingress-nginx it is:

  supported    it does what it did in ingress-nginx (shown with --all)
  difference   it is supported, with the difference that the message describes
  unsupported  it has no effect
  unknown      ingress-nginx has no such annotation
  invalid      its value cannot be read
  closed       it is not supported and restricts access, so every request is refused
  foreign      it belongs to another ingress controller; the message names the replacement
  setting      it is a key of ingress-nginx's own ConfigMap

Objects that the manifests refer to but do not contain (NotInManifests) are assumed to
exist in the cluster.

With -o markdown and -o html the same is a report to pass on.

check contacts a cluster only with --cluster, and never contacts an agent. The exit status
is 0 if everything is served as written or with a difference, 1 if something is not, 2 if
the command line is wrong, and 3 if something could not be read and all the rest is served.`,
		Example: `  kerngatectl check manifests/
  helm template CHART | kerngatectl check -
  kubectl get ingress -A -o yaml | kerngatectl check -
  kerngatectl check --cluster --context production
  kerngatectl check --sarif deploy.yaml > check.sarif
  kerngatectl check manifests/ -o html > report.html`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 && !of.asked || len(args) > 0 && of.asked {
				return usageError{fmt.Errorf("name one file or folder, - for standard input, or --cluster; see %s --help", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			checker := check.New(judge)
			var unread error
			if of.asked {
				if err := of.check(c.Context(), checker, judge.IngressNginx); err != nil {
					return err
				}
			} else if unread = checkAll(e, checker, args[0]); unread != nil {
				unread = unreadError{unread}
			}
			report := checker.Report()
			if sarif || o.output == "sarif" {
				raw, err := report.SARIF(version)
				if err != nil {
					return err
				}
				fmt.Fprintf(e.stdout, "%s\n", raw)
			} else if o.output == "markdown" {
				report.Document().Markdown(e.stdout)
			} else if o.output == "html" {
				if err := report.Document().HTML(e.stdout); err != nil {
					return err
				}
			} else if err := show(e.stdout, o, report, func(w io.Writer) { checkTable(w, report, all, unread != nil) }); err != nil {
				return err
			}
			if report.Refused() {
				return errors.Join(unread, errRefused)
			}
			return unread
		},
	}
	command.Flags().BoolVar(&all, "all", false, "also list annotations that do what they did under ingress-nginx")
	command.Flags().StringVar(&judge.Class, "ingress-class", "", "check only Ingresses of this class, as the agent with this --ingress-class does; empty: check all Ingresses as if they were of the agent's class")
	command.Flags().StringVar(&judge.IngressNginx, "ingress-nginx-configmap", "", "ConfigMap of ingress-nginx's controller, as NAMESPACE/NAME, as the agent has it with the flag of the same name; empty: none")
	command.Flags().BoolVar(&of.asked, "cluster", false, "read the Ingresses of all namespaces of a cluster, with kubectl")
	command.Flags().StringVar(&of.kubeconfig, "kubeconfig", "", "kubeconfig `file` for kubectl, with --cluster; empty: kubectl's default")
	command.Flags().StringVar(&of.context, "context", "", "`name` of the kubeconfig context for kubectl, with --cluster; empty: the current one")
	command.Flags().BoolVar(&sarif, "sarif", false, "print SARIF 2.1.0, the format that code hosts read; the same as -o sarif")
	return command
}

// checkTable prints the Ingresses, then the findings, then what holds for all.
func checkTable(w io.Writer, r check.Report, all, unread bool) {
	var cells [][]string
	for _, i := range r.Ingresses {
		cells = append(cells, []string{i.Name, i.Outcome, place(i.File, i.Line)})
	}
	if len(cells) > 0 {
		columns(w, "INGRESS OUTCOME FILE", cells)
		fmt.Fprintln(w)
	}
	cells = nil
	for _, f := range r.Findings {
		if all || f.Level != check.Note {
			key := strings.TrimPrefix(f.Key, ingressnginx.Prefix)
			cells = append(cells, []string{place(f.File, f.Line), f.Object, string(f.Level), f.Verdict, key, strings.ReplaceAll(f.Message, "\n", " ")})
		}
	}
	if len(cells) > 0 {
		columns(w, "FILE OBJECT LEVEL VERDICT KEY MESSAGE", cells)
		fmt.Fprintln(w)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(w, "Where ingress-nginx's defaults differ, for every Ingress:")
		for _, n := range r.Notes {
			fmt.Fprintln(w, "  "+n)
		}
		fmt.Fprintln(w)
	}
	if !unread || len(r.Ingresses)+len(r.Findings) > 0 { // else nothing was read
		fmt.Fprintln(w, r.Summary())
	}
}

func place(file string, line int) string { return file + ":" + strconv.Itoa(line) }

// checkAll reads what an argument names. Files that cannot be read do not keep the others
// from being judged.
func checkAll(e env, checker *check.Checker, path string) error {
	if path == "-" {
		return checker.Add("-", e.stdin)
	}
	var errs []error
	walkErr := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || name != path && !manifest.IsManifest(name) {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		errs = append(errs, checker.Add(name, f))
		return nil
	})
	return errors.Join(append(errs, walkErr)...)
}
