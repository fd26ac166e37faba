package confine

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock takes away, by the version of its interface that introduced it: everything that
// changes a file system, and running programs. Reading stays possible: the resolver's files are
// where the distribution puts them, and what else the user of a proxy may read is little.
var taken = []uint64{
	1: unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM,
	2: unix.LANDLOCK_ACCESS_FS_REFER,
	3: unix.LANDLOCK_ACCESS_FS_TRUNCATE,
	5: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV,
}

// spooling is what the spool does in its folder: files without a name, or, where the file system
// has none of these, files that are removed at once.
const spooling = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE

// scopes is the version from which sockets with abstract names can be closed off. The proxy shares
// the node's network namespace, and container runtimes listen on such sockets there.
const scopes = 6

// version is that of the kernel's Landlock, 0 if it has none.
func version() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// landlock restricts what the process can do with files. TCP is not restricted: pods may be
// anywhere.
func landlock(writable string) error {
	has := version()
	if has == 0 {
		return errors.New("the kernel has none: it needs CONFIG_SECURITY_LANDLOCK, and landlock in lsm= of its command line")
	}
	var rules unix.LandlockRulesetAttr
	for since, rights := range taken {
		if since <= has {
			rules.Handled_access_fs |= rights
		}
	}
	if has >= scopes {
		rules.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	// Fields behind these are of versions that this program does not know of, and zero.
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)),
		unsafe.Offsetof(rules.Scoped)+unsafe.Sizeof(rules.Scoped), 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(ruleset))
	if writable != "" {
		if err := allow(int(ruleset), writable, spooling); err != nil {
			return err
		}
	}
	return onAllThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
}

// allow adds an exception for what is below a folder.
func allow(ruleset int, folder string, rights uint64) error {
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", folder, err)
	}
	defer unix.Close(fd)
	beneath := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_add_rule for %s: %w", folder, errno)
	}
	return nil
}
