package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/status"
)

func newRoutes(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "routes [HOST]",
		Short: "List hosts and paths, in order of precedence",
		Long: `routes lists the published routes: the paths of each host, in the order in which they are
matched, with the service and the Ingress of each. HOST shows one host; "*" stands for
rules without a host.

If SERVICE is "-", the route's service port does not exist, and requests get 503.`,
		Example: `  kerngatectl routes
  kerngatectl routes host.example.com -o json`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			routes, err := ask[status.Routes](c.Context(), e, o, status.QueryRoutes)
			if err != nil {
				return err
			}
			if routes.Hosts == nil {
				routes.Hosts = []status.Host{}
			}
			if len(args) == 1 {
				routes.Hosts, err = one(routes.Hosts, args[0], hostName, "host")
				if err != nil {
					return err
				}
			}
			return show(e.stdout, o, routes, func(w io.Writer) {
				var cells [][]string
				for _, h := range routes.Hosts {
					for _, r := range h.Routes {
						cells = append(cells, []string{hostName(h), r.Path, r.Match, r.Service, ingressOr(r)})
					}
				}
				if routes.Default != "" && len(args) == 0 {
					cells = append(cells, []string{"*", "(else)", "Default", routes.Default, ""})
				}
				columns(w, "HOST PATH MATCH SERVICE INGRESS", cells)
			})
		},
	}
}

// hostName is a host as people type it.
func hostName(h status.Host) string {
	if h.Name == "" {
		return "*"
	}
	return h.Name
}

// ingressOr returns the object that has a route, without its kind if that is Ingress.
func ingressOr(r status.Route) string {
	if r.Kind == "" || r.Kind == "Ingress" {
		return r.Source
	}
	return r.Object()
}
