//go:build linux

// Command attack runs load attacks against Kerngate, nginx and haproxy, each beside an honest
// client, and says what the client got and how much memory the proxy took. scripts/attack builds
// what it needs and calls it.
//
// Attackers, client, proxies and pods are in network namespaces of one lab. Every attack is
// bounded: by its time, by the number of its connections and by rates, so that it takes what a
// proxy gives and not the machine's CPUs. Attackers and pods share the CPUs that no proxy has, at
// a lower priority than the honest client.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

type options struct {
	bin, out string
	only     string
	products string
	duration time.Duration
	patience time.Duration

	role role
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder with the binaries")
	flag.StringVar(&o.out, "o", "", "also write the report to this file, as Markdown")
	flag.StringVar(&o.only, "only", "", "run only attacks whose name contains this")
	flag.StringVar(&o.products, "products", "kerngate,nginx,haproxy", "what to attack")
	flag.DurationVar(&o.duration, "duration", 8*time.Second, "of an attack")
	flag.DurationVar(&o.patience, "patience", 30*time.Second, "for the memory to come back after an attack")
	o.role.flags()
	flag.Parse()
	err := o.role.play()
	if errors.Is(err, errNoRole) {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if missing := lab.Missing(); missing != "" {
		return fmt.Errorf("it needs %s", missing)
	}
	if runtime.NumCPU() < 2 {
		return errors.New("it needs two CPUs: one for the proxy and one for everything else")
	}
	if o.duration < time.Second || o.duration > time.Minute || o.patience < 0 || o.patience > time.Minute {
		return errors.New("-duration: 1s to 1m; -patience: up to 1m")
	}
	list := selected(o.only)
	if len(list) == 0 {
		return fmt.Errorf("-only: no attack's name contains %q", o.only)
	}
	l, err := lab.New(lab.Options{Nodes: 1, NoIPv6: true})
	if err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- attackAll(l, list, o) }()
	select {
	case err = <-done:
	case s := <-interrupted:
		err = fmt.Errorf("stopped by signal %s", s)
	}
	return errors.Join(err, l.Close())
}

// attackAll runs the attacks and writes the report. Its error says which aims were missed.
func attackAll(l *lab.Lab, list []*attack, o options) error {
	s, err := newSite(l, o)
	if err != nil {
		return err
	}
	var report bytes.Buffer // written when it is whole: a run that stops leaves the last one
	out := io.MultiWriter(os.Stdout, &report)
	fmt.Fprint(out, s.preamble(o))
	var results []*result
	for _, a := range list {
		got, err := s.run(a, o)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		results = append(results, got...)
		fmt.Fprint(out, section(a, got))
	}
	missed := missedAims(results)
	fmt.Fprint(out, verdict(missed))
	if o.out != "" {
		if err := os.WriteFile(o.out, report.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("aims missed: %d; the end of the report names them", len(missed))
	}
	return nil
}
