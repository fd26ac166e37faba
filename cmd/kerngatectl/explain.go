package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/look/explain"
	"github.com/kerngate/kerngate/userspace/look/status"
)

func newExplain(e env, o *options) *cobra.Command {
	var address, from string
	var cookies []string
	var request explain.Request
	c := &cobra.Command{
		Use:   "explain URL",
		Short: "Explain step by step how a request is routed",
		Long: `explain traces a request through this node without sending it. It shows the ingress
address; the proxy workers that may get the connection; for https, the server's certificate
and whether the client needs one; the host and path rules, and why each matches or does not;
the rules of the route; the service; and the pods that may serve the request. The last lines
show the response that the client gets and, if it is an error, what to do.

By default the request is a GET with only the header Host. If the response depends on
something that the flags do not specify (the client's address, whether a password is
correct, the size of the body), the possible cases are listed below the response.`,
		Example: `  kerngatectl explain http://host.example.com/info
  kerngatectl explain https://host.example.com/info
  kerngatectl explain host.example.com/info --address 192.0.2.10 --from 198.51.100.7
  kerngatectl explain https://host.example.com/upload --method PUT --body-bytes 2000000
  kerngatectl explain https://host.example.com/ --header 'X-Canary: always' --cookie beta=always
  kerngatectl explain https://host.example.com/ --auth-status 401`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("explain takes one URL, such as http://host.example.com/path")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			t, err := explain.ParseTarget(args[0])
			if err != nil {
				return usageError{err}
			}
			if err := setAddress(&t.Address, "address", address); err != nil {
				return err
			}
			if err := setAddress(&t.From, "from", from); err != nil {
				return err
			}
			if len(cookies) > 0 {
				request.Fields = append(request.Fields, "Cookie: "+strings.Join(cookies, "; "))
			}
			t.Request = request
			if err := t.Check(); err != nil {
				return usageError{err}
			}
			v, err := look(c.Context(), e, o)
			if err != nil {
				return err
			}
			in := explain.Input{Target: t, Maps: v.maps, Services: v.services}
			if v.mapsErr != nil {
				in.NoMaps = v.mapsErr.Error()
			}
			if in.Routes, err = ask[status.Routes](c.Context(), e, o, status.QueryRoutes); err != nil {
				in.NoAgent = err.Error()
			} else if in.Rules, err = askRules(c.Context(), e, o, in); err != nil {
				in.NoAgent = err.Error()
			} else if t.Scheme == "https" {
				if in.Certificates, err = ask[status.Certificates](c.Context(), e, o, status.QueryCertificates); err != nil {
					in.NoAgent = err.Error()
				}
			}
			in.RulesOf = func(of status.RuleOf) (*status.Rules, error) { return ask[status.Rules](c.Context(), e, o, of.Query()) }
			out := explain.Explain(in)
			return show(e.stdout, o, out, func(w io.Writer) { explained(w, out) })
		},
	}
	c.Flags().StringVar(&address, "address", "", "ingress `address` that the client connects to; empty: any of them")
	c.Flags().StringVar(&from, "from", "", "`address` of the client, which is compared with deny and allow prefixes and the source ranges of Ingresses; empty: unknown")
	c.Flags().StringVarP(&request.Method, "method", "X", "GET", "`method` of the request")
	c.Flags().StringArrayVarP(&request.Fields, "header", "H", nil, "`header` of the request, 'NAME: VALUE'; repeatable")
	c.Flags().StringArrayVar(&cookies, "cookie", nil, "`cookie` of the request, NAME=VALUE; repeatable")
	c.Flags().Int64Var(&request.Body, "body-bytes", 0, "size of the request body, in bytes")
	c.Flags().IntVar(&request.AuthStatus, "auth-status", 0, "`status` of the response of the external auth service (auth-url); 0: unknown")
	return c
}

// askRules asks for the rules of the route that matches; nil if there is none.
func askRules(ctx context.Context, e env, o *options, in explain.Input) (*status.Rules, error) {
	of, ok := explain.RuleOf(in)
	if !ok {
		return nil, nil
	}
	return ask[status.Rules](ctx, e, o, of.Query())
}

func setAddress(to *netip.Addr, flag, text string) error {
	if text == "" {
		return nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return usageError{fmt.Errorf("--%s %q is not an IP address", flag, text)}
	}
	*to = a.Unmap()
	return nil
}

// explained prints the steps one under the other, what was looked at indented below.
func explained(w io.Writer, x explain.Explanation) {
	fmt.Fprintf(w, "%s\n\n", x.URL)
	for _, s := range x.Steps {
		mark := map[explain.Result]string{explain.OK: "ok", explain.Stop: "STOP", explain.Unknown: "?"}[s.Result]
		fmt.Fprintf(w, "%-5s%-10s%s\n", mark, s.Name, s.Summary)
		if s.Name == "rules" {
			for _, r := range x.Rules {
				fmt.Fprintf(w, "%15s. %s%s\n", "", r.Text, askedBy(r))
			}
			continue
		}
		width := 0
		for _, c := range s.Considered {
			width = max(width, len(c.Rule))
		}
		for _, c := range s.Considered {
			sign := "-"
			if c.Chosen {
				sign = "+"
			}
			fmt.Fprintf(w, "%15s%s %-*s   %s\n", "", sign, width, c.Rule, c.Why)
		}
	}
	if len(x.Backends) > 0 {
		var cells [][]string
		for _, p := range x.Backends {
			cells = append(cells, append(loadCells(p.Backend, p.Pod, p.Node), p.Why))
		}
		var table strings.Builder
		columns(&table, loadHeading+" WHY", cells)
		fmt.Fprintf(w, "\n%s", table.String())
	}
	fmt.Fprintf(w, "\n=> %s: %s\n", x.Answer.Reason, x.Answer.Summary)
	for _, other := range x.Answer.Otherwise {
		fmt.Fprintf(w, "   if %s: %s (%s)\n", other.When, other.Summary, other.Reason)
	}
	if x.Answer.Next != "" {
		fmt.Fprintf(w, "   %s\n", x.Answer.Next)
	}
}

// askedBy says what asked for a rule, annotations of ingress-nginx without their prefix.
func askedBy(r explain.Rule) string {
	if len(r.By) == 0 {
		return ""
	}
	return " (" + strings.ReplaceAll(strings.Join(r.By, ", "), ingressnginx.Prefix, "") + ")"
}
