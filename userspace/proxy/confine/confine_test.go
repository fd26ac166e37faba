package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// confined is the environment variable that makes the test binary do what a proxy does, behind the
// walls, and tell what it met.
const confined = "CONFINE_TEST_SPOOL"

// abstract names a socket of the test, outside.
const abstract = "CONFINE_TEST_SOCKET"

// report is what the process behind the walls tells.
type report struct {
	Walls   map[string]string // "" for those in force
	Errors  map[string]string // of what it tried
	Threads []string          // of its threads: NoNewPrivs and Seccomp of /proc
}

func TestMain(m *testing.M) {
	if spool := os.Getenv(confined); spool != "" {
		json.NewEncoder(os.Stdout).Encode(behindWalls(spool))
		return
	}
	os.Exit(m.Run())
}

// behindWalls raises the walls and tries them, from a thread that was there before.
func behindWalls(spool string) report {
	r := report{Walls: map[string]string{}, Errors: map[string]string{}}
	older := make(chan func() error)
	answers := make(chan error)
	go func() {
		runtime.LockOSThread()
		for try := range older {
			answers <- try()
		}
	}()
	older <- func() error { return nil } // its thread exists
	<-answers
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	for _, wall := range Self(spool) {
		r.Walls[wall.Name] = text(wall.Err)
	}
	for name, try := range attempts(spool, listener) {
		older <- try
		r.Errors[name] = text(<-answers)
	}
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		status, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		var wanted []string
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "NoNewPrivs:") || strings.HasPrefix(line, "Seccomp:") {
				wanted = append(wanted, strings.Join(strings.Fields(line), " "))
			}
		}
		r.Threads = append(r.Threads, strings.Join(wanted, ", "))
	}
	return r
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// errnoOf makes a system call and returns its error.
func errnoOf(number uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

// What is tried: names with "may" must succeed, "landlock" and "scope" are refused where there is
// Landlock, the others with EPERM by the filter. None of the calls does harm if it is let through.
func attempts(spool string, listener net.Listener) map[string]func() error {
	socket := func(family int) func() error {
		return func() error {
			fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	bad := ^uintptr(0) // no address: EFAULT if the call is let through
	return map[string]func() error{
		"execve":             errnoOf(unix.SYS_EXECVE, bad, 0, 0),
		"execveat":           errnoOf(unix.SYS_EXECVEAT, bad, bad, 0, 0, 0),
		"ptrace":             errnoOf(unix.SYS_PTRACE, unix.PTRACE_ATTACH, bad),
		"process_vm_readv":   errnoOf(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), bad, 1, bad, 1, 0),
		"pidfd_open":         errnoOf(unix.SYS_PIDFD_OPEN, uintptr(os.Getpid()), bad),
		"bpf":                errnoOf(unix.SYS_BPF, bad, bad, 0),
		"io_uring_setup":     errnoOf(unix.SYS_IO_URING_SETUP, 1, bad),
		"perf_event_open":    errnoOf(unix.SYS_PERF_EVENT_OPEN, bad),
		"userfaultfd":        errnoOf(unix.SYS_USERFAULTFD, bad),
		"keyctl":             errnoOf(unix.SYS_KEYCTL, bad),
		"mount":              errnoOf(unix.SYS_MOUNT, bad, bad, bad, 0, 0),
		"setns":              errnoOf(unix.SYS_SETNS, bad, 0),
		"unshare":            errnoOf(unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_THREAD),
		"init_module":        errnoOf(unix.SYS_INIT_MODULE, bad, 0, bad),
		"setuid":             errnoOf(unix.SYS_SETUID, bad),
		"fork":               errnoOf(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_FS), // contradict each other: EINVAL if it is let through
		"executable memory":  errnoOf(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, bad, 0),
		"dumpable again":     errnoOf(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0),
		"signal to others":   errnoOf(unix.SYS_KILL, uintptr(os.Getppid()), 0),
		"packet socket":      socket(unix.AF_PACKET),
		"socket of crypto":   socket(unix.AF_ALG),
		"type into terminal": errnoOf(unix.SYS_IOCTL, 0, unix.TIOCSTI, bad),
		"may socket":         socket(unix.AF_INET6),
		"may interfaces": func() error {
			_, err := net.Interfaces()
			return err
		},
		"may signal itself": errnoOf(unix.SYS_TGKILL, uintptr(os.Getpid()), uintptr(os.Getpid()), 0),
		"may TCP": func() error {
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err == nil {
				conn.Close()
			}
			return err
		},
		"may threads": manyThreads,
		"may spool without a name": func() error {
			fd, err := unix.Open(spool, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
			if errors.Is(err, unix.EOPNOTSUPP) {
				return nil
			}
			if err == nil {
				_, err = unix.Write(fd, []byte("body"))
				unix.Close(fd)
			}
			return err
		},
		"may spool and remove": func() error {
			name := filepath.Join(spool, "body")
			return errors.Join(os.WriteFile(name, nil, 0o600), os.Remove(name))
		},
		"may read": func() error {
			_, err := os.ReadFile("/proc/self/cgroup")
			return err
		},
		"make a device": errnoOf(unix.SYS_MKNODAT, bad, bad, 0, 0),
		"scope abstract": func() error {
			conn, err := net.Dial("unix", os.Getenv(abstract))
			if err == nil {
				conn.Close()
			}
			return err
		},
		"landlock write": func() error { return os.WriteFile(filepath.Join(filepath.Dir(spool), "else"), nil, 0o600) },
	}
}

// manyThreads has more threads at a time than there were before the walls.
func manyThreads() error {
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() {
			runtime.LockOSThread()
			time.Sleep(10 * time.Millisecond)
		})
	}
	wait.Wait()
	return nil
}

// TestSelf: behind the walls a server works, and nothing else does.
func TestSelf(t *testing.T) {
	spool := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(spool, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	socket := fmt.Sprintf("@confine-%d", os.Getpid())
	outside, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	cmd.Env = append(os.Environ(), confined+"="+spool, abstract+"="+socket)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{Undumpable, Seccomp} { // no kernel and no build lacks them
		if r.Walls[name] != "" {
			t.Errorf("%s: %s", name, r.Walls[name])
		}
	}
	for name, got := range r.Errors {
		kind, _, _ := strings.Cut(name, " ")
		switch {
		case kind == "may":
			if got != "" {
				t.Errorf("%s: %s", name, got)
			}
		case kind == "landlock":
			if r.Walls[Landlock] == "" && !strings.HasSuffix(got, syscall.EACCES.Error()) {
				t.Errorf("%s: %q, want %q", name, got, syscall.EACCES)
			}
		case kind == "scope":
			if r.Walls[Landlock] == "" && version() >= scopes && !strings.HasSuffix(got, syscall.EPERM.Error()) {
				t.Errorf("%s: %q, want %q", name, got, syscall.EPERM)
			}
		case got != syscall.EPERM.Error():
			t.Errorf("%s: %q, want %q", name, got, syscall.EPERM)
		}
	}
	if len(r.Threads) < 3 {
		t.Errorf("threads: %q", r.Threads)
	}
	for _, thread := range r.Threads {
		if thread != "NoNewPrivs: 1, Seccomp: 2" {
			t.Errorf("a thread has %q", thread)
		}
	}
	t.Logf("walls: %q", r.Walls)
}
