// Command kerngatectl looks into a node that runs Kerngate: what is published, where a
// request goes and why. It reads the pinned maps and asks the agent over its socket. Only
// deny, allow, drain and undrain change anything.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/look/explain"
)

// version is stamped by the Makefile.
var version = "devel"

// env is what the command touches outside of itself.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	// ask returns the agent's JSON answer to a query on its socket.
	ask func(ctx context.Context, socket, what string) ([]byte, error)
	// readMaps reads the maps pinned in a folder.
	readMaps func(bpffs string) (*explain.Maps, error)
	// readLoad reads of them what changes with each packet and request.
	readLoad func(bpffs string) (*explain.Maps, error)
	// openWatch begins to read the events of a node.
	openWatch     func(bpffs string, o inspect.WatchOptions) (eventReader, error)
	interfaceName func(index uint32) string
	isTerminal    func() bool // standard output
	// openLists opens the prefix lists in a folder of pins.
	openLists    func(bpffs string) (prefixLists, error)
	ownAddresses func() []netip.Addr // of this node
	getenv       func(string) string
}

// usageError is a wrong command line: exit status 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e := env{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now, getenv: os.Getenv,
		ask: feed.Ask, readMaps: readMaps, openLists: openLists, ownAddresses: ownAddresses,
		readLoad: readLoad, openWatch: openWatch, interfaceName: interfaceName, isTerminal: isTerminal,
	}
	os.Exit(exit(run(ctx, e, os.Args[1:]), e.stderr))
}

// exit prints an error as one line and returns the exit status.
func exit(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "kerngatectl:", strings.ReplaceAll(err.Error(), "\n", "\nkerngatectl: "))
	if errors.As(err, new(usageError)) {
		return 2
	}
	if errors.As(err, new(unreadError)) && !errors.Is(err, errRefused) {
		return 3
	}
	return 1
}

func run(ctx context.Context, e env, args []string) error {
	root := newRoot(e)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}
