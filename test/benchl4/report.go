//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// quartiles of what the rounds gave: the middle half lies between low and high.
type quartiles struct{ low, median, high float64 }

func quartilesOf(values []float64) quartiles {
	values = slices.Sorted(slices.Values(values))
	at := func(quarter int) float64 { return values[(len(values)-1)*quarter/4] }
	return quartiles{at(1), at(2), at(3)}
}

// each combines the rounds of two ways, pair by pair: what disturbs one round mostly disturbs
// both ways in it.
func each(a, b []float64, f func(a, b float64) float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = f(a[i], b[i])
	}
	return out
}

func minus(a, b float64) float64 { return a - b }
func over(a, b float64) float64  { return a / b }

// kind is one thing that is measured.
type kind struct {
	name   string
	unit   string // of one
	values func(*way) []float64
}

var kinds = []kind{
	{"request", "us", func(w *way) []float64 { return w.perRequest }},
	{"connection", "us", func(w *way) []float64 { return w.perConnection }},
	{"MiB of bulk", "us", func(w *way) []float64 { return w.perMiB }},
}

// report prints tables of what the ways took, and what is to be compared.
func report(out io.Writer, ways []*way) {
	for _, k := range kinds {
		fmt.Fprintf(out, "| way | CPU per %s | added | middle half of rounds | relative |\n", k.name)
		fmt.Fprintln(out, "| --- | ---: | ---: | ---: | ---: |")
		base := ways[0]
		for _, w := range ways {
			if strings.HasPrefix(w.name, plainRouting) {
				base = w // of those that follow
			}
			median := quartilesOf(k.values(w)).median
			if w == base {
				fmt.Fprintf(out, "| %s | %.1f %s | | | |\n", w.name, median, k.unit)
				continue
			}
			added := quartilesOf(each(k.values(w), k.values(base), minus))
			fmt.Fprintf(out, "| %s | %.1f %s | %s | %.1f to %.1f | %.2f |\n", w.name, median, k.unit,
				addedText(added, k.unit), added.low, added.high, quartilesOf(each(k.values(w), k.values(base), over)).median)
		}
		fmt.Fprintln(out)
	}
	reportAims(out, ways)
}

func addedText(q quartiles, unit string) string {
	if q.low <= 0 && q.high >= 0 {
		return "nothing that shows"
	}
	return fmt.Sprintf("%.1f %s", q.median, unit)
}

// reportAims prints what was aimed at, and whether it is reached: not if the middle half of the
// rounds lies on both sides of the aim.
func reportAims(out io.Writer, ways []*way) {
	find := func(name string) *way {
		for _, w := range ways {
			if w.name == name {
				return w
			}
		}
		return nil
	}
	base, ours := find(plainRouting), find(kerngate)
	fmt.Fprintln(out, "| what Kerngate adds | aim | median | middle half of rounds | |")
	fmt.Fprintln(out, "| --- | ---: | ---: | ---: | --- |")
	row := func(what string, aim float64, values []float64, measurable bool) {
		q := quartilesOf(values)
		if !measurable {
			fmt.Fprintf(out, "| %s | %.2f | | | within the noise |\n", what, aim)
			return
		}
		fmt.Fprintf(out, "| %s | %.2f | %.2f | %.2f to %.2f | %s |\n", what, aim, q.median, q.low, q.high, verdict(q, aim))
	}
	for _, k := range kinds[:2] {
		for _, peer := range []struct {
			name string
			aim  float64
		}{{haproxyTCP, 0.1}, {nftables, 0.5}} {
			w := find(peer.name)
			if w == nil {
				continue
			}
			// The peer's median: a share of what is itself noise would be more of it.
			added := quartilesOf(each(k.values(w), k.values(base), minus))
			shares := each(k.values(ours), k.values(base), minus)
			for i := range shares {
				shares[i] /= added.median
			}
			row(fmt.Sprintf("per %s, of what %s adds", k.name, peer.name), peer.aim, shares, added.low > 0)
		}
	}
	row("bulk, relative to "+plainRouting, 1.03, each(kinds[2].values(ours), kinds[2].values(base), over), true)
}

// verdict says whether an aim, which is an upper limit, is reached.
func verdict(q quartiles, aim float64) string {
	switch {
	case q.high <= aim:
		return "reached"
	case q.low > aim:
		return "not reached"
	}
	return "within the noise"
}
