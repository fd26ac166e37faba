// kerngate-proxy serves the clients of one node. It needs no rights: the agent gives it
// everything over a unix socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/cgroup"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy"
	"github.com/kerngate/kerngate/userspace/proxy/confine"
	"github.com/kerngate/kerngate/userspace/proxy/io/spool"
	"github.com/kerngate/kerngate/userspace/proxy/observe/accesslog"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
)

// version is set at build time.
var version = "dev"

// mostSeries bounds what a scrape of /metrics can come to.
const mostSeries = 100_000

// memoryShare is the part of its control group's memory from which the collector works harder. The
// proxy refuses requests above that.
const memoryShare = 0.9

type flags struct {
	socket   string
	workers  int
	metrics  string
	series   int
	detail   string
	logLevel string

	spoolDir   string
	spoolTotal int64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake in the command line: one line, exit status 2.
type usageError struct{ error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "kerngate-proxy: %v (see kerngate-proxy --help)\n", err)
		return 2
	default:
		fmt.Fprintf(stderr, "kerngate-proxy: %v\n", err)
		return 1
	}
}

func command(stdout, stderr io.Writer) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "kerngate-proxy",
		Short: "Serve the HTTP clients of this node",
		Long: `kerngate-proxy serves the HTTP clients of this node. It needs no capabilities, and runs
as any user that kerngate-agent accepts on its socket. The agent sends it its maps and
its configuration, and steers connections to it. While the agent is down, the proxy keeps
serving with the configuration that it has. On SIGTERM it finishes its open requests and
connections, then exits.

Several proxies may run at once: the newest gets the new connections, the others drain.`,
		Example: `  # Use the socket of the agent on this node:
  kerngate-proxy --socket /run/kerngate/agent.sock

  # Two workers, metrics for Prometheus on all addresses:
  kerngate-proxy --workers 2 --metrics-address :9465`,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), f, stdout, stderr) },
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unexpected argument %q", args[0])}
		}
		return nil
	}
	fl := cmd.Flags()
	fl.StringVar(&f.socket, "socket", "/run/kerngate/agent.sock", "unix `socket` of kerngate-agent")
	fl.IntVar(&f.workers, "workers", 0, "number of threads that serve clients; 0: one per CPU")
	fl.StringVar(&f.metrics, "metrics-address", "127.0.0.1:9465", "`address` on which to serve /metrics, /healthz and /readyz; empty: they are not served")
	fl.IntVar(&f.series, "metrics-series", usage.Most, "largest number of pairs of Ingress and Service with metrics of their own; all further pairs are counted together as \"other\"")
	fl.StringVar(&f.detail, "metrics-detail", proxy.Details[proxy.Full], "metrics of each pair of Ingress and Service: full (18 series, and more if it has responses of several status classes, or failures), brief (6, without histograms of durations) or none")
	fl.StringVar(&f.spoolDir, "request-spool-dir", "", "`folder` on a disk in which request bodies without Content-Length that are larger than the agent's --request-buffer-bytes are kept in unnamed files until a pod has them; empty: such bodies get 411")
	fl.Int64Var(&f.spoolTotal, "request-spool-total", model.DefaultSpool, "largest total size of these files, in bytes. While it is used up, further bodies get 503; a single body larger than this gets 411")
	fl.StringVar(&f.logLevel, "log-level", "info", "least severe messages to log: debug, info, warn or error")
	return cmd
}

func serve(ctx context.Context, f flags, stdout, stderr io.Writer) error {
	level, err := zerolog.ParseLevel(f.logLevel)
	if err != nil || level < zerolog.DebugLevel || level > zerolog.ErrorLevel {
		return usageError{fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)}
	}
	if f.workers < 0 || f.workers > abi.GenerationWorkers {
		return usageError{fmt.Errorf("--workers %d: want 0 to %d", f.workers, abi.GenerationWorkers)}
	}
	if f.series < 1 || f.series > mostSeries {
		return usageError{fmt.Errorf("--metrics-series %d: want 1 to %d", f.series, mostSeries)}
	}
	log := zerolog.New(stderr).Level(level).With().Timestamp().Str("component", "proxy").Int("pid", os.Getpid()).Logger()

	// The live heap is small and stays so; collecting it more rarely costs little memory
	// and saves the reactors' CPU. GOGC in the environment still rules.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if most := cgroup.Own().LimitGo(memoryShare); most > 0 {
		log.Info().Int64("bytes", most).Msg("memory of the Go runtime is limited by that of the control group")
	}
	access := accesslog.New(stdout)
	defer access.Close()
	detail := slices.Index(proxy.Details[:], f.detail)
	if detail < 0 {
		return usageError{fmt.Errorf("--metrics-detail %q: want %s", f.detail, strings.Join(proxy.Details[:], ", "))}
	}
	bodies, err := openSpool(f)
	if err != nil {
		return err
	}
	// The workers' threads, which Go's scheduler cannot interrupt, are yet to come.
	walls := confine.Self(f.spoolDir)
	tellWalls(log, walls)
	p, err := proxy.New(proxy.Options{Socket: f.socket, Workers: f.workers, Build: version, Series: f.series, Detail: proxy.Detail(detail), Spool: bodies, Walls: walls, Log: log, Access: access})
	if err != nil {
		return err
	}
	if f.metrics != "" {
		admin, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		go func() {
			if err := p.Serve(admin, f.metrics); err != nil {
				log.Error().Err(err).Msg("metrics are not served")
			}
		}()
	}
	return p.Run(ctx)
}

// tellWalls logs what this process has given up, and what it could not: it serves all the same.
func tellWalls(log zerolog.Logger, walls []confine.Wall) {
	var raised []string
	for _, w := range walls {
		if w.Err != nil {
			log.Warn().Err(w.Err).Str("wall", w.Name).Msg("the proxy serves without this restriction")
			continue
		}
		raised = append(raised, w.Name)
	}
	log.Info().Strs("walls", raised).Msg("the proxy has restricted itself")
}

// openSpool opens the folder for large request bodies, nil if there is none.
func openSpool(f flags) (*spool.Dir, error) {
	if f.spoolTotal < model.LeastSpool {
		return nil, usageError{fmt.Errorf("--request-spool-total %d: want at least %d", f.spoolTotal, model.LeastSpool)}
	}
	if f.spoolDir == "" {
		return nil, nil
	}
	d, err := spool.Open(f.spoolDir, f.spoolTotal)
	if err != nil {
		return nil, fmt.Errorf("--request-spool-dir: %w; it must exist, and UID %d must be able to write to it", err, os.Getuid())
	}
	return d, nil
}
