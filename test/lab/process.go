//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command describes a process to start on a host.
type Command struct {
	Path string   // of the executable
	Args []string // without the executable's name
	Env  []string // in addition to this process's environment
	Name string   // of its log file; the executable's name if empty
	User uint32   // user and group id; 0: root
	CPUs []int    // it may run on; none: all

	// Stdout gets what the process writes to its standard output; nil: the log. It may be
	// read after the process's end.
	Stdout *bytes.Buffer
}

// Process runs on a host, in a process group of its own. It is killed by Close, and when
// this process dies.
type Process struct {
	PID int

	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended; err is set before
	err  error
}

// Start starts a process in the host's network namespace. Its output goes to a log file.
func (h *Host) Start(c Command) (*Process, error) {
	if c.Name == "" {
		c.Name = filepath.Base(c.Path)
	}
	p := &Process{
		cmd:  exec.Command(c.Path, c.Args...),
		log:  filepath.Join(h.lab.Dir, h.Name+"."+c.Name+".log"),
		done: make(chan struct{}),
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c.User != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.User, Gid: c.User}
	}
	h.onKeeper(func() { err = startOn(p.cmd, c.CPUs) })
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", c.Path, h.Name, err)
	}
	p.PID = p.cmd.Process.Pid
	h.mu.Lock()
	h.started = append(h.started, p)
	h.mu.Unlock()
	go func() { // ends with the process, which Close kills
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// startOn starts a command whose processes may use only the given CPUs. The calling
// thread's own set is put back.
func startOn(cmd *exec.Cmd, cpus []int) error {
	if len(cpus) == 0 {
		return cmd.Start()
	}
	var before, wanted unix.CPUSet
	for _, cpu := range cpus {
		wanted.Set(cpu)
	}
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return fmt.Errorf("restrict to CPUs %v: %w", cpus, err)
	}
	return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &before))
}

// Run runs a process on the host to its end and returns its standard output. The error holds
// the exit status and the end of what it wrote to standard error.
func (h *Host) Run(c Command) (stdout string, err error) {
	if c.Name == "" {
		c.Name = filepath.Base(c.Path)
	}
	c.Name = fmt.Sprintf("%s.%d", c.Name, time.Now().UnixNano()) // a log of its own
	c.Stdout = new(bytes.Buffer)
	p, err := h.Start(c)
	if err != nil {
		return "", err
	}
	err = p.Wait()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", c.Path, strings.Join(c.Args, " "), err, p.LogTail(5))
	}
	return c.Stdout.String(), err
}

// Wait waits for the end and returns an *exec.ExitError unless the status was 0.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the exit status after the end; -1 if a signal ended the process, or it still runs.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// Signal sends a signal to the process alone, not to its group.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end and kills it if it has not ended in time.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("process %d did not end within %s of SIGTERM and was killed", p.PID, limit)
	}
}

// Kill kills the process and those in its group, and waits for its end.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.done
}

// Log returns what the process has written to stdout and stderr so far.
func (p *Process) Log() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// LogTail returns the last lines of Log.
func (p *Process) LogTail(lines int) string {
	all := strings.Split(strings.TrimRight(p.Log(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// killStarted kills everything that was started on the host, the newest first.
func (h *Host) killStarted() {
	h.mu.Lock()
	started := slices.Clone(h.started)
	h.started = nil
	h.mu.Unlock()
	slices.Reverse(started)
	for _, p := range started {
		p.Kill()
	}
}
