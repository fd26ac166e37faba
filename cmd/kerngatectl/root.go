package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Where the agent keeps its maps and its socket unless it is told otherwise.
const (
	defaultBPFFS  = "/sys/fs/bpf/kerngate"
	defaultSocket = "/run/kerngate/agent.sock"
)

// options are the flags that every command has.
type options struct {
	bpffs, socket string
	output        string
	timeout       time.Duration
}

// newRoot builds the command tree.
func newRoot(e env) *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "kerngatectl",
		Short: "Inspect a node that runs Kerngate",
		Long: `kerngatectl inspects a node that runs Kerngate: what is published, which pods serve it,
and why a request is routed where it is.

It reads the BPF maps, and queries the agent over its socket. If one of the two is not
available, it shows what the other one knows, and says what to do.`,
		Example: `  kerngatectl status
  kerngatectl explain http://host.example.com/info`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			switch o.output {
			case "table", "json", "yaml":
				return nil
			case "sarif", "markdown":
				if c.Name() == "check" {
					return nil
				}
			case "html":
				if c.Name() == "check" || c.Name() == "migrate" {
					return nil
				}
			}
			return usageError{fmt.Errorf("-o %q: want table, json or yaml", o.output)}
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.bpffs, "bpffs", defaultBPFFS, "`folder` in which the maps are pinned: the agent's --bpffs")
	flags.StringVar(&o.socket, "socket", defaultSocket, "unix `socket` of the agent: the agent's --socket")
	flags.StringVarP(&o.output, "output", "o", "table", "output format: table, json or yaml")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "longest time to wait for the agent")
	root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))

	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.AddCommand(
		newStatus(e, o), newRoutes(e, o), newServices(e, o), newBackends(e, o), newCertificates(e, o),
		newNodes(e, o), newWatch(e, o), newTop(e, o), newDrain(e, o), newUndrain(e, o), newDeny(e, o), newAllow(e, o), newExplain(e, o), newProblems(e, o), newCheck(e, o), newMigrate(e, o), newVersion(e, o),
	)
	root.RunE = func(c *cobra.Command, args []string) error { return c.Help() }
	root.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("there is no command %q", args[0])
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError{fmt.Errorf("%s (kerngatectl --help lists them)", text)}
	}
	return root
}

// atMost is cobra.MaximumNArgs with an error that exits as a usage error.
func atMost(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("%q is an unexpected argument; see %s --help", args[n], c.CommandPath())}
		}
		return nil
	}
}
