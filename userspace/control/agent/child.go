package agent

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

const (
	restartFirst = 200 * time.Millisecond // wait before a proxy that ended is started again
	restartMost  = 30 * time.Second
	stable       = time.Minute // after a proxy has lived this long, the next wait is restartFirst again
	// After one that had served clients are waiting, and whatever ended it did not keep it from
	// serving. So there is no wait, and one of restartServed if it had served for less than
	// servedLong: the proxy is back within 100 ms however often it dies, and a machine of one CPU
	// has half of it left for others.
	restartServed = 50 * time.Millisecond
	servedLong    = 500 * time.Millisecond
)

// Child starts proxies as unprivileged processes and starts another when there is none.
// They live in sessions of their own, so that they outlive an agent that is killed; the
// next agent finds them by their connection and starts no other. A nil Child does nothing.
type Child struct {
	Path    string // of kerngate-proxy
	Args    []string
	UID     int // used if the agent is root
	GID     int
	Stdout  *os.File
	Stderr  *os.File
	Log     zerolog.Logger
	Replace chan struct{} // a value asks for a new proxy, to which connections then move

	processes map[int]time.Time // started, by pid
	serving   map[int]bool      // pids of those that have served
	timer     *time.Timer       // for next
	exited    chan childExit
	backoff   time.Duration
	next      time.Time // not before
	stopping  bool
}

type childExit struct {
	pid int
	err error
}

// exits delivers processes that have ended.
func (c *Child) exits() <-chan childExit {
	if c == nil {
		return nil
	}
	if c.exited == nil {
		c.exited, c.processes, c.serving = make(chan childExit, 16), map[int]time.Time{}, map[int]bool{}
		c.timer = time.NewTimer(restartMost)
	}
	return c.exited
}

// due delivers when the wait before the next start is over.
func (c *Child) due() <-chan time.Time {
	if c == nil {
		return nil
	}
	c.exits() // makes the timer
	return c.timer.C
}

// served notes that a process gets connections.
func (c *Child) served(pid int) {
	if c == nil {
		return
	}
	if _, ours := c.processes[pid]; ours {
		c.serving[pid] = true
	}
}

func (c *Child) replacements() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.Replace
}

// keep starts a proxy if there is neither one that serves nor one that is about to. One that has
// served and lives drains, or does not turn: it keeps nobody waiting for another.
func (c *Child) keep(hasProxy bool) {
	if c == nil || hasProxy || c.starting() || time.Now().Before(c.next) {
		return
	}
	c.start()
}

// starting reports whether a process that was started here has not served yet.
func (c *Child) starting() bool { return len(c.processes) > len(c.serving) }

// running reports whether a process that was started here has not ended.
func (c *Child) running() bool { return c != nil && len(c.processes) > 0 }

// start starts one more proxy.
func (c *Child) start() {
	if c.stopping {
		return
	}
	c.exits() // makes the channel
	raiseDescriptors(c.Log)
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir = "/"
	cmd.Env = environment(os.Environ())
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		// Another user than root loses all capabilities, the permitted ones included.
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID)}
	}
	if err := startWithoutNewPrivileges(cmd); err != nil {
		c.Log.Error().Err(err).Str("binary", c.Path).Msg("cannot start the proxy")
		c.delay(restartMost)
		return
	}
	pid := cmd.Process.Pid
	c.processes[pid] = time.Now()
	c.Log.Info().Int("proxy_pid", pid).Str("binary", c.Path).Int("uid", c.UID).Msg("proxy started")
	go func() { c.exited <- childExit{pid, cmd.Wait()} }() // ends with the process
}

// descriptors that a proxy gets if the agent may raise its own limit: the most that Linux
// gives a process unless fs.nr_open says otherwise. A connection takes one, and one to a pod.
const descriptors = 1 << 20

// raiseDescriptors raises the limit of open descriptors, which proxies inherit and cannot
// raise themselves.
func raiseDescriptors(log zerolog.Logger) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	if err == nil && limit.Cur < descriptors {
		most := max(limit.Max, descriptors)
		// By package syscall, or processes started later get the earlier limit back.
		err = syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: most, Max: most})
	}
	if err != nil {
		log.Info().Err(err).Uint64("descriptors", limit.Max).Msg("cannot raise the limit of open file descriptors, which limits the proxy's connections (see --max-connections)")
	}
}

// startWithoutNewPrivileges starts the command from a thread that has given up gaining
// privileges by exec, and every capability that it could, for itself and its children.
// The thread ends with the goroutine.
func startWithoutNewPrivileges(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			result <- fmt.Errorf("give up new privileges: %w", err)
			return
		}
		for capability := uintptr(0); capability < 64; capability++ {
			// Of an agent without CAP_SETPCAP the bounding set stays; no_new_privs and
			// the other user make it meaningless all the same.
			if unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0) != nil {
				break
			}
		}
		result <- cmd.Start()
	}()
	return <-result
}

// environment keeps what tunes the Go runtime and nothing else: the agent's may hold
// credentials.
func environment(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return !slices.Contains([]string{"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "TZ"}, name)
	})
}

// reaped notes that a process has ended.
func (c *Child) reaped(exit childExit) {
	lived, served := time.Since(c.processes[exit.pid]), c.serving[exit.pid]
	delete(c.processes, exit.pid)
	delete(c.serving, exit.pid)
	if c.stopping || exit.err == nil {
		c.Log.Info().Int("proxy_pid", exit.pid).Err(exit.err).Msg("proxy ended")
		if lived <= stable {
			c.delay(restartMost) // one that ends well, but at once, is not started in a tight loop
		}
		return
	}
	switch {
	case served && lived > servedLong:
		c.backoff, c.next = 0, time.Time{}
	case served:
		c.wait(restartServed)
	default:
		if lived > stable {
			c.backoff = 0
		}
		c.delay(restartMost)
	}
	c.Log.Error().Int("proxy_pid", exit.pid).Err(exit.err).Dur("again_in", c.backoff).Msg("proxy died")
}

// delay has the next start wait, twice as long as the last one, but most at most.
func (c *Child) delay(most time.Duration) { c.wait(min(max(2*c.backoff, restartFirst), most)) }

func (c *Child) wait(d time.Duration) {
	c.backoff = d
	c.next = time.Now().Add(c.backoff)
	if c.timer != nil {
		c.timer.Reset(c.backoff)
	}
}

// stop asks the processes, and those which an earlier agent had started, to drain and
// end. None is started any more.
func (c *Child) stop(adopted []int) { c.signal(unix.SIGTERM, adopted) }

func (c *Child) kill(adopted []int) { c.signal(unix.SIGKILL, adopted) }

func (c *Child) signal(signal syscall.Signal, adopted []int) {
	if c == nil {
		return
	}
	c.stopping = true
	for pid := range c.processes {
		adopted = append(adopted, pid)
	}
	slices.Sort(adopted)
	for _, pid := range slices.Compact(adopted) {
		if err := unix.Kill(pid, signal); err != nil && err != unix.ESRCH {
			c.Log.Warn().Err(err).Int("proxy_pid", pid).Msg("cannot signal the proxy")
		}
	}
}
