//go:build linux

// Command demo shows Kerngate at work on this machine: it builds a small data centre out of
// network namespaces, publishes manifests/examples/quickstart, and checks every answer.
// scripts/demo builds what it needs and calls it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

func main() {
	bin := flag.String("bin", "bin", "folder with kerngate-agent, kerngate-proxy, kerngatectl and pod")
	manifests := flag.String("manifests", "manifests/examples/quickstart", "folder of the objects to publish")
	flag.Parse()
	err := run(*bin, *manifests)
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n%s %v\n", red("demo failed:"), err)
		os.Exit(1)
	}
}

func run(bin, manifests string) (err error) {
	if missing := lab.Missing(); missing != "" {
		return fmt.Errorf("it needs %s", missing)
	}
	d := &demo{started: time.Now()}
	// Control-C removes the lab, too.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- d.play(bin, manifests) }()
	select {
	case err = <-done:
	case s := <-interrupted:
		err = fmt.Errorf("stopped by signal %s", s)
	}
	err = errors.Join(err, d.cleanUp())
	if err == nil {
		d.verdict()
	}
	return err
}

// demo is the show and what it runs on.
type demo struct {
	lab      *lab.Lab
	kerngate *lab.Kerngate
	started  time.Time
	asked    int      // requests
	wrong    []string // answers that were not right
}

func (d *demo) play(bin, manifests string) error {
	for _, act := range []func() error{
		func() error { return d.build(bin) },
		func() error { return d.publish(bin, manifests) },
		d.ask,
		d.change,
		d.secure,
		d.explain,
		d.maps,
	} {
		if err := act(); err != nil {
			if d.kerngate != nil && d.kerngate.Agent != nil {
				err = fmt.Errorf("%w\nthe agent's and proxy's last words:\n%s", err, d.kerngate.Agent.LogTail(15))
			}
			return err
		}
	}
	if len(d.wrong) > 0 {
		return fmt.Errorf("%d answers were wrong: %v", len(d.wrong), d.wrong)
	}
	return nil
}

// The pods of manifests/examples/quickstart, in the order in which their nodes number them.
var cast = []struct {
	node         int
	pod, service string
}{
	{0, "intro-1", "intro"}, // 10.244.1.11
	{1, "intro-2", "intro"}, // 10.244.2.11
	{0, "intro-3", "intro"}, // 10.244.1.12
	{0, "info-1", "info"},   // 10.244.1.13
	{1, "info-2", "info"},   // 10.244.2.12
}

// build makes client, nodes and pods.
func (d *demo) build(bin string) (err error) {
	heading("A lab of network namespaces on this machine")
	if d.lab, err = lab.New(lab.Options{Nodes: 2}); err != nil {
		return err
	}
	rows := [][]string{{"HOST", "ADDRESS", "ROLE"}}
	rows = append(rows, []string{"client", d.lab.Client.IPv4.String(), "sends requests; knows the way to " + d.lab.VIP4.String()})
	for i, node := range d.lab.Nodes {
		role := "runs kerngate-agent and kerngate-proxy"
		if i > 0 {
			role = "runs pods only"
		}
		rows = append(rows, []string{node.Name, node.IPv4.String(), role})
	}
	for _, part := range cast {
		node := d.lab.Nodes[part.node]
		pod, err := node.AddPod(part.pod)
		if err != nil {
			return err
		}
		if _, err := pod.Serve(filepath.Join(bin, "pod"), part.service); err != nil {
			return err
		}
		rows = append(rows, []string{part.pod, pod.IPv4.String(), "pod on " + node.Name})
	}
	table(rows)
	return nil
}

// publish starts the agent on the manifests.
func (d *demo) publish(bin, manifests string) (err error) {
	heading("kerngate-agent --manifests " + manifests + " --ingress-ip " + d.lab.VIP4.String())
	if d.kerngate, err = d.lab.Nodes[0].NewKerngate(lab.Binaries(bin)); err != nil {
		return err
	}
	return d.startAgent(manifests)
}

// cleanUp removes the lab and makes sure that nothing of it is left.
func (d *demo) cleanUp() error {
	if d.lab == nil {
		return nil
	}
	var errs []error
	if d.kerngate != nil && d.kerngate.Agent != nil {
		_, err := d.kerngate.Uninstall()
		errs = append(errs, err)
		left, err := d.kerngate.Residue()
		errs = append(errs, err)
		for _, thing := range left {
			errs = append(errs, errors.New("kerngate-agent --uninstall left "+thing))
		}
	}
	errs = append(errs, d.lab.Close())
	left, err := lab.Leftovers(d.lab.Name)
	errs = append(errs, err)
	for _, thing := range left {
		errs = append(errs, errors.New("left behind: "+thing))
	}
	return errors.Join(errs...)
}

func (d *demo) verdict() {
	fmt.Printf("\n%s %d requests, every answer right, nothing left behind; %.1f s.\n",
		green("Done:"), d.asked, time.Since(d.started).Seconds())
}
