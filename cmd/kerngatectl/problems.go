package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/status"
)

func newProblems(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "problems",
		Short: "List objects that are not served as written, and why",
		Long: `problems lists the objects that the agent cannot serve as written. Objects with a Warning
are still served; Refused parts are not served, and nothing else is affected. The agent
also writes an event on the object when a problem appears and when it is solved.`,
		Example: `  kerngatectl problems
  kerngatectl problems -o json`,
		Args: atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := ask[status.Problems](c.Context(), e, o, status.QueryProblems)
			if err != nil {
				return err
			}
			if p.Problems == nil {
				p.Problems = []status.Problem{}
			}
			return show(e.stdout, o, p, func(w io.Writer) {
				if len(p.Problems) == 0 {
					fmt.Fprintln(w, "no problems")
					return
				}
				var cells [][]string
				for _, q := range p.Problems {
					cells = append(cells, []string{q.Object, q.Severity, q.Reason, ago(e.now(), q.Since), q.Message})
				}
				columns(w, "OBJECT SEVERITY REASON SINCE MESSAGE", cells)
			})
		},
	}
}
