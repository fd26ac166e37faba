package confine

import (
	"os"

	"golang.org/x/sys/unix"
)

// The filter lists what is allowed, because what the kernel learns to do next year is not known
// today. Everything else answers EPERM: execve, ptrace, process_vm_*, pidfd_*, bpf, perf_event_open,
// io_uring_*, userfaultfd, keyctl, mount and its kin, setns, unshare, loading of modules, and the
// calls that change the process's user. A process that is killed would be a worse answer: one call
// that a new version of Go's runtime makes, and could do without, would end all connections.

// always are the system calls that are allowed whatever their arguments are, those that serve
// traffic first: kernels before 5.11 compare one by one.
var always = append([]uintptr{
	unix.SYS_EPOLL_PWAIT, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_RECVFROM, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	unix.SYS_FUTEX, unix.SYS_ACCEPT4, unix.SYS_CLOSE, unix.SYS_EPOLL_CTL, unix.SYS_SETSOCKOPT, unix.SYS_CONNECT, unix.SYS_SPLICE,
	unix.SYS_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_MADVISE, unix.SYS_RT_SIGRETURN,

	// Sockets.
	unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKOPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_RECVMMSG, unix.SYS_SENDMMSG, unix.SYS_SENDFILE, unix.SYS_TEE, unix.SYS_VMSPLICE,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2, unix.SYS_PIPE2, unix.SYS_PPOLL, unix.SYS_PSELECT6,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,

	// Files: the spool, the resolver's, the cgroup's.
	unix.SYS_OPENAT, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_PREADV, unix.SYS_PWRITEV,
	unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_GETDENTS64, unix.SYS_READLINKAT,
	unix.SYS_FACCESSAT, unix.SYS_GETCWD, unix.SYS_UNLINKAT, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FADVISE64,
	unix.SYS_COPY_FILE_RANGE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_FCNTL,

	// Memory.
	unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_MEMBARRIER,

	// Threads, signals, time, and what the process is.
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID,
	unix.SYS_GETEGID, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SCHED_GETAFFINITY, unix.SYS_RESTART_SYSCALL,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_SIGALTSTACK, unix.SYS_RT_SIGTIMEDWAIT,
	unix.SYS_SETITIMER, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES,
	unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY, unix.SYS_GETRANDOM, unix.SYS_UNAME, unix.SYS_GETCPU, unix.SYS_SYSINFO, unix.SYS_GETRUSAGE, unix.SYS_GETRLIMIT,
}, older...)

// prSetVMA names mappings of memory, which Go's runtime does.
const prSetVMA = 0x53564d41

// Filter is the filter of this process: some rules name it.
func Filter() []unix.SockFilter {
	pid := uint32(os.Getpid())
	f := program{
		load(offsetArch),
		jump(unix.BPF_JEQ, arch, 1, 0),
		result(unix.SECCOMP_RET_KILL_PROCESS), // a call of another architecture, whose numbers mean other calls
		load(offsetNumber),
	}
	for _, number := range always {
		f = append(f, jump(unix.BPF_JEQ, uint32(number), 0, 1), result(unix.SECCOMP_RET_ALLOW))
	}
	// Threads, but no processes and no namespaces: one with CLONE_THREAD can have none of its own.
	f.rule(unix.SYS_CLONE, 0, unix.BPF_JSET, unix.CLONE_THREAD)
	// The C library tries this first, and goes on with clone if there is no such call: its
	// flags are in memory, where a filter cannot see them.
	f = append(f, jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), fail(unix.ENOSYS))
	// No new code.
	f.refuse(unix.SYS_MMAP, 2, unix.BPF_JSET, unix.PROT_EXEC)
	f.refuse(unix.SYS_MPROTECT, 2, unix.BPF_JSET, unix.PROT_EXEC)
	// No raw access to the network, to keys of the kernel, or to a hypervisor. Netlink tells
	// the addresses of the node.
	f.rule(unix.SYS_SOCKET, 0, unix.BPF_JEQ, unix.AF_INET, unix.AF_INET6, unix.AF_UNIX, unix.AF_NETLINK)
	f.rule(unix.SYS_SOCKETPAIR, 0, unix.BPF_JEQ, unix.AF_UNIX)
	// Signals to its own threads, as Go's scheduler sends them.
	f.rule(unix.SYS_TGKILL, 0, unix.BPF_JEQ, pid)
	f.rule(unix.SYS_KILL, 0, unix.BPF_JEQ, pid)
	f.rule(unix.SYS_PRLIMIT64, 0, unix.BPF_JEQ, 0, pid)
	// Above all the process cannot make itself dumpable again.
	f.rule(unix.SYS_PRCTL, 0, unix.BPF_JEQ, prSetVMA)
	// TCGETS: is it a terminal? TIOCSTI would type into one.
	f.rule(unix.SYS_IOCTL, 1, unix.BPF_JEQ, unix.TCGETS, unix.TIOCINQ, unix.TIOCOUTQ)
	return append(f, fail(unix.EPERM))
}

// program is a filter that is being written. It tests the number of the call until a test
// is true.
type program []unix.SockFilter

// rule allows a call if one of the tests of an argument's lower half is true.
func (p *program) rule(number uintptr, argument int, test uint16, values ...uint32) {
	p.test(number, argument, test, unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM), values)
}

// refuse allows a call unless one of them is.
func (p *program) refuse(number uintptr, argument int, test uint16, values ...uint32) {
	p.test(number, argument, test, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM), unix.SECCOMP_RET_ALLOW, values)
}

// test ends with yes or no if the call has this number, and else goes on behind.
func (p *program) test(number uintptr, argument int, test uint16, yes, no uint32, values []uint32) {
	body := []unix.SockFilter{load(offsetArguments + 8*uint32(argument))}
	for _, v := range values {
		body = append(body, jump(test, v, 0, 1), result(yes))
	}
	body = append(body, result(no))
	*p = append(append(*p, jump(unix.BPF_JEQ, uint32(number), 0, uint8(len(body)))), body...)
}

// Where struct seccomp_data holds what. Of an argument the lower 32 bits are tested, which come first
// on amd64 and arm64: the kernel takes these arguments as 32 bits, or PROT_EXEC is in the lower ones.
const (
	offsetNumber    = 0
	offsetArch      = 4
	offsetArguments = 16
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(test uint16, value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: value}
}

func result(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

func fail(err unix.Errno) unix.SockFilter { return result(unix.SECCOMP_RET_ERRNO | uint32(err)) }
