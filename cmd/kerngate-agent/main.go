// kerngate-agent keeps the kernel maps and the proxies of one node as the objects of a
// cluster, or a folder of manifests, say. It is the privileged half of Kerngate and
// serves no clients.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/cgroup"
	"github.com/kerngate/kerngate/userspace/control/agent"
	"github.com/kerngate/kerngate/userspace/control/cluster"
	"github.com/kerngate/kerngate/userspace/control/ocsp"
	"github.com/kerngate/kerngate/userspace/feed"
)

// version is set at build time.
var version = "dev"

// memoryShare is the part of its control group's memory that Go's runtime may use. The BPF maps are
// charged to the same group.
const memoryShare = 0.8

// env is what the agent takes from its surroundings.
type env struct {
	args           []string
	stdout, stderr *os.File
	hostname       func() (string, error)
	executable     func() (string, error)
	replace        chan struct{} // SIGHUP: start a new proxy
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	replace := make(chan struct{}, 1)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			select {
			case replace <- struct{}{}:
			default: // one is asked for already
			}
		}
	}()
	err := run(ctx, env{
		args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr,
		hostname: os.Hostname, executable: os.Executable, replace: replace,
	})
	os.Exit(exitStatus(err, os.Stderr))
}

// usageError is a mistake in the command line or the configuration file: one line, exit
// status 2.
type usageError struct{ error }

func exitStatus(err error, stderr io.Writer) int {
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "kerngate-agent: %v (see kerngate-agent --help)\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "kerngate-agent: %v\n", err)
	return 1
}

// run reads the command line and does what it says.
func run(ctx context.Context, e env) error {
	cmd, flags := command(e)
	cmd.SetArgs(e.args)
	cmd.SetOut(e.stdout)
	cmd.SetErr(e.stderr)
	work := func() error {
		o, err := flags.options(e)
		if err != nil {
			return usageError{err}
		}
		if flags.uninstall {
			return uninstall(ctx, o)
		}
		return serve(ctx, e, o)
	}
	flags.work = work
	return cmd.ExecuteContext(ctx)
}

// uninstall removes what earlier agents left in the kernel.
func uninstall(ctx context.Context, o *options) error {
	waited, cancel := context.WithTimeout(ctx, o.flags.uninstallWait)
	defer cancel()
	for {
		err := loader.Uninstall(o.loader)
		if err == nil {
			break
		}
		if !errors.Is(err, loader.ErrLocked) || o.flags.uninstallWait == 0 {
			return err
		}
		select {
		case <-waited.Done():
			return fmt.Errorf("waited %v: %w", o.flags.uninstallWait, err)
		case <-time.After(time.Second):
		}
	}
	if err := os.Remove(o.feed.Path); err != nil && !os.IsNotExist(err) {
		return err
	}
	if o.flags.stateDir != "" {
		if err := cluster.RemoveKept(o.flags.stateDir); err != nil {
			return err
		}
	}
	if o.flags.uninstallStay {
		<-ctx.Done()
	}
	return nil
}

// serve builds the parts and lets them run.
func serve(ctx context.Context, e env, o *options) error {
	log := o.log
	from, err := o.origin(log)
	if err != nil {
		return usageError{err}
	}
	datapath, err := openDatapath(ctx, o.loader, log)
	if err != nil || datapath == nil {
		return err
	}
	defer datapath.Close()

	if most := cgroup.Own().LimitGo(memoryShare); most > 0 {
		log.Info().Int64("bytes", most).Msg("memory of the Go runtime is limited by that of the control group")
	}
	o.settings.SkMsg = datapath.Joins()
	o.feed.MapABI, o.feed.Log = abi.ABI, log
	server, err := feed.Listen(o.feed)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), datapath.Collector())
	if from.keep != nil {
		if err := from.keep(datapath, registry); err != nil {
			return err
		}
	}
	var stapler *ocsp.Stapler
	if o.flags.ocsp {
		guard := ocsp.Guard{Ingress: o.node.Addresses, Allowed: o.kube.Allowed, Node: net.InterfaceAddrs}
		stapler = ocsp.New(guard.Dial, registry, log)
	}
	watch, err := newWatch(o, datapath, registry)
	if err != nil {
		return err
	}
	var drain func(on bool) error
	if watch != nil {
		drain = watch.drain
	}
	a := agent.New(agent.Options{
		Datapath:  datapath,
		Source:    from.source,
		Server:    server,
		Reporter:  from.reporter,
		Node:      o.node,
		Settings:  o.settings,
		Child:     o.child,
		Describe:  describer(o, datapath),
		Drain:     drain,
		NodeName:  o.flags.nodeName,
		Metrics:   agent.NewMetrics(registry),
		Listeners: o.kube.Listeners,
		Log:       log,

		Tickets:      from.rings,
		DefaultFiles: o.defaultFiles,
		Stapler:      stapler,
	})

	// What serves the agent ends after it: probes and the Lease, so that an agent which
	// waits for its proxy still answers.
	group, groupCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	groupCtx, done := context.WithCancel(groupCtx)
	defer done()
	if o.metricsAddress != "" {
		group.Go(func() error { return agent.ServeHTTP(groupCtx, o.metricsAddress, a.Handler(registry), log) })
	}
	if from.reporter != nil {
		group.Go(func() error { return from.reporter.Run(groupCtx) })
	}
	group.Go(func() error { from.keys(groupCtx); return nil })
	if watch != nil {
		group.Go(func() error { return watch.run(groupCtx, o.flags.fabric.timeout > 0) })
	}
	group.Go(func() error {
		defer done()
		agentCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(groupCtx, cancel)()
		return a.Run(agentCtx)
	})
	return group.Wait()
}

// openDatapath waits for an agent that still holds the maps: during an update of the
// DaemonSet the new pod starts before the old one has ended. It first shows that it can do that
// one's work, and ends with an error if not: its pod then does not become ready, and the
// DaemonSet leaves the old one where it is.
func openDatapath(ctx context.Context, o loader.Options, log zerolog.Logger) (*loader.Datapath, error) {
	for logged := false; ; logged = true {
		datapath, err := loader.Open(o)
		if !errors.Is(err, loader.ErrLocked) {
			return datapath, err
		}
		if !logged {
			log.Info().Err(err).Msg("another agent runs: showing that this one can do its work")
			if err := loader.Prove(o); err != nil {
				return nil, fmt.Errorf("this agent cannot take over from the one that runs, which goes on: %w", err)
			}
			log.Warn().Msg("this agent is able to take over, and waits for the other one to end")
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil
		}
	}
}
