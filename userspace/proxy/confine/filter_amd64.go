package confine

import "golang.org/x/sys/unix"

const arch = unix.AUDIT_ARCH_X86_64

// older are calls that younger architectures do not have: package unix and the C library make some
// of them.
var older = []uintptr{
	unix.SYS_EPOLL_WAIT, unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_PAUSE, unix.SYS_TIME,
	unix.SYS_OPEN, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_UNLINK,
	unix.SYS_EPOLL_CREATE, unix.SYS_EVENTFD, unix.SYS_PIPE, unix.SYS_DUP2,
}
