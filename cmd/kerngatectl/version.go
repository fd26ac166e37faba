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
		Use:     "version",
		Short:   "Show the version of this program",
		Long:    `version shows what kerngatectl was built from. kerngatectl status shows the agent's and the proxies' versions.`,
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
