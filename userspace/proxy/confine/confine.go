// Package confine takes from a process what a proxy never needs once it has started, so that a
// client who takes it over finds little: no way to run a program, to write a file outside the
// spool, to look into another process, or to reach the rarely used parts of the kernel.
//
// In: the folder that must stay writable. Out: which of the walls are in force, and why the others
// are not. A wall that the kernel lacks is no error: the proxy serves without it, and says so.
package confine

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Wall is one restriction of the process.
type Wall struct {
	Name string
	Err  error // why it is not in force; nil: it is
}

// The walls by name, in the order in which Self raises them.
const (
	Undumpable = "undumpable"   // no core dumps; /proc/PID belongs to root, and nobody else may attach
	NoNewPrivs = "no_new_privs" // no program that it runs could gain rights
	Landlock   = "landlock"     // only the spool can be written, nothing executed
	Seccomp    = "seccomp"      // only the system calls of a server
)

// Self raises the walls around this process, all of its threads included. It must run before any
// thread is busy in system calls that Go's scheduler does not know of: the threads are restricted
// together, which waits for each. writable is the folder that can be written, "" for none.
//
// Landlock comes before seccomp, which refuses its system calls.
func Self(writable string) []Wall {
	return []Wall{
		{Undumpable, undumpable()},
		{NoNewPrivs, onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)},
		{Landlock, landlock(writable)},
		{Seccomp, seccomp(Filter())},
	}
}

// undumpable also has /proc/PID belong to root, so that another process of the same user, such as
// another proxy, can neither read this one's memory nor trace it.
func undumpable() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("limit core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
	}
	return nil
}

// onAllThreads makes a system call on every thread of the process.
func onAllThreads(number, first, second uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(number, first, second, 0, 0, 0, 0)
	switch {
	case errno == unix.ENOTSUP:
		return errors.New("a binary with cgo cannot restrict all of its threads: build it with CGO_ENABLED=0")
	case errno != 0:
		return errno
	}
	return nil
}

// seccomp puts a filter on all threads, and on those that they start. The flag SPEC_ALLOW leaves
// speculation as it is: kernels before 5.16 slow down every filtered thread without it.
func seccomp(filter []unix.SockFilter) error {
	runtime.LockOSThread() // the thread that may not gain privileges is the one that asks
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL:
		return fmt.Errorf("the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER): %w", errno)
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d has a filter of its own", thread)
	}
	return nil
}
