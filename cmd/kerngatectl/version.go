package main

import (
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/feed"
)

// versions is what `kerngatectl version` shows.
type versions struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Feed    int    `json:"feed"` // newest version of the agent's socket that it speaks
}

func newVersion(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program",
		Long: `version shows the version of kerngatectl itself. kerngatectl status shows the versions of the
agent and the proxies.`,
		Example: `  kerngatectl version`,
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			v := versions{Version: version, Go: runtime.Version(), Feed: feed.Version}
			return show(e.stdout, o, v, func(w io.Writer) {
				pairs(w, [][2]string{{"kerngatectl", v.Version}, {"built with", v.Go}})
			})
		},
	}
}
