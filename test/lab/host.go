//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Address is an IP address in a lab.
type Address = netip.Addr

// Host is a network namespace with a name and addresses.
type Host struct {
	Name string // short: client, node-1, intro-1
	IPv4 Address
	IPv6 Address // zero without IPv6

	lab    *Lab
	space  netns.NsHandle
	links  *netlink.Handle // acts inside the namespace from any thread
	keeper chan func()     // runs functions on one thread that stays as long as the host

	mu      sync.Mutex
	started []*Process
}

// Namespace is the host's name for ip-netns(8) and nsenter --net=/run/netns/NAME.
func (h *Host) Namespace() string { return h.lab.Name + "-" + h.Name }

// addHost makes a namespace with its loopback up.
func (l *Lab) addHost(name string) (*Host, error) {
	if l.host(name) != nil {
		return nil, fmt.Errorf("host %s exists already", name)
	}
	h := &Host{Name: name, lab: l, keeper: make(chan func())}
	ready := make(chan error)
	go onThread(func() {
		var err error
		h.space, err = netns.NewNamed(h.Namespace())
		ready <- err
		if err != nil {
			return
		}
		for f := range h.keeper {
			f()
		}
	})
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", h.Namespace(), err)
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	var err error
	if h.links, err = netlink.NewHandleAt(h.space, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("netlink in %s: %w", h.Namespace(), err)
	}
	lo, err := h.links.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	return h, h.links.LinkSetUp(lo)
}

// onThread runs f on an OS thread of its own, which ends with f: the thread's namespace is
// f's to change. It never uses the process's first thread, because /proc/PID/ns shows that
// thread's namespaces as the whole process's.
func onThread(f func()) {
	runtime.LockOSThread() // and never unlocked: a thread in a strange namespace must not be reused
	if unix.Gettid() == unix.Getpid() {
		done := make(chan struct{})
		go func() { // on another thread, since this one is locked
			defer close(done)
			onThread(f)
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	f()
}

// onKeeper runs f on the host's own thread, which lives as long as the host. Processes are
// started there: the kernel sends their parent-death signal when the *thread* that
// started them ends.
func (h *Host) onKeeper(f func()) {
	done := make(chan struct{})
	h.keeper <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Do runs f in the host's network namespace. What f opens (sockets, netlink handles)
// stays in that namespace; goroutines that f starts do not run in it.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	go onThread(func() {
		if err := netns.Set(h.space); err != nil {
			result <- fmt.Errorf("enter network namespace %s: %w", h.Namespace(), err)
			return
		}
		result <- f()
	})
	return <-result
}

// Dial connects from the host. The address must hold an IP address, since names would be
// looked up outside of the lab.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial from %s: %w", h.Name, err)
	}
	var conn net.Conn
	err = h.Do(func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, target.String())
		return err
	})
	return conn, err
}

// Listen listens on the host.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := h.Do(func() (err error) {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		listener, err = config.Listen(context.Background(), network, address)
		return err
	})
	return listener, err
}

// HTTPClient returns a client that sends every request from this host to the given address,
// whatever the URL's host says. It follows no redirects and keeps its own connections.
func (h *Host) HTTPClient(to netip.AddrPort) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return h.Dial(ctx, network, to.String())
			},
			DisableCompression:  true,
			MaxIdleConnsPerHost: 64,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
}

// SetSysctl writes a value below /proc/sys/net of the host, named by its path: "ipv4/ip_forward".
func (h *Host) SetSysctl(name, value string) error {
	return h.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644)
	})
}

// Links gives netlink access to the host's interfaces, addresses and routes.
func (h *Host) Links() *netlink.Handle { return h.links }

// Processes lists the ids of the processes whose executable has that name, wherever they
// came from.
func (h *Host) Processes(executable string) ([]int, error) {
	inode, err := namespaceInode(filepath.Join(namedNamespaces, h.Namespace()))
	if err != nil {
		return nil, err
	}
	pids, err := processesIn(map[uint64]bool{inode: true})
	if err != nil {
		return nil, err
	}
	var matching []int
	for _, pid := range pids {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(exe) == executable {
			matching = append(matching, pid)
		}
	}
	return matching, nil
}

// release gives up the thread and handles, after the namespace's name has been removed.
func (h *Host) release() {
	close(h.keeper)
	if h.links != nil {
		h.links.Close()
	}
	_ = h.space.Close()
}

// patience lengthens all limits where machines are emulated (KERNGATE_TEST_PATIENCE=10).
var patience = func() time.Duration {
	n, _ := strconv.Atoi(os.Getenv("KERNGATE_TEST_PATIENCE"))
	return time.Duration(max(n, 1))
}()

// Until asks condition again and again until it returns nil, and gives up after the limit
// with its last error. It is what the lab has instead of sleeping.
func Until(limit time.Duration, what string, condition func() error) error {
	limit *= patience
	deadline := time.Now().Add(limit)
	pause := time.Millisecond
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s within %s: %w", what, limit, err)
		}
		time.Sleep(pause)
		pause = min(2*pause, 50*time.Millisecond)
	}
}

// ErrNotYet is for conditions that have nothing more to say.
var ErrNotYet = errors.New("not yet")
