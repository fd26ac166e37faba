package spool

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/model"
)

func open(t *testing.T, total int64) (*Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := Open(path, total)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d, path
}

// names returns what stands in a folder.
func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func expect(t *testing.T, d *Dir, held, files int64) {
	t.Helper()
	if d.Held() != held || d.Files() != files {
		t.Errorf("%d bytes and %d files are held, want %d and %d", d.Held(), d.Files(), held, files)
	}
}

// TestFile: what is appended in pieces is read back from anywhere, by a file that has no name,
// whether the file system has O_TMPFILE or not.
func TestFile(t *testing.T) {
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprintf("named=%v", named), func(t *testing.T) {
			d, path := open(t, 8<<20)
			d.named.Store(named)
			f := d.New()
			expect(t, d, 0, 0)
			var want []byte
			for i := range 3 {
				var pieces [][]byte
				for j := range 150 { // more than one system call takes
					p := bytes.Repeat([]byte{byte(i*7 + j)}, 1+j*31)
					pieces, want = append(pieces, p), append(want, p...)
				}
				if err := f.Append(pieces); err != nil {
					t.Fatal(err)
				}
			}
			if f.Size() != int64(len(want)) {
				t.Errorf("size %d, want %d", f.Size(), len(want))
			}
			if list := names(t, path); len(list) > 0 {
				t.Errorf("the folder shows %q", list)
			}
			var stat unix.Stat_t
			if err := unix.Fstat(f.fd, &stat); err != nil || stat.Nlink != 0 || stat.Mode&0o777 != 0o600 || stat.Size != int64(len(want)) {
				t.Errorf("%d links, mode %o, size %d, %v", stat.Nlink, stat.Mode&0o777, stat.Size, err)
			}
			expect(t, d, (int64(len(want))+model.LeastSpool-1)/model.LeastSpool*model.LeastSpool, 1)
			p := make([]byte, 300_000)
			var got []byte
			for at := int64(0); at < f.Size(); {
				n, err := f.Fill(p, at)
				if err != nil || n == 0 {
					t.Fatal(n, err)
				}
				got, at = append(got, p[:n]...), at+int64(n)
			}
			if !bytes.Equal(got, want) {
				t.Error("something else is read than was written")
			}
			f.Close()
			f.Close()
			expect(t, d, 0, 0)
			if err := f.Append([][]byte{{1}}); !errors.Is(err, os.ErrClosed) {
				t.Errorf("append after close: %v", err)
			}
			if _, err := f.Fill(p, 0); !errors.Is(err, os.ErrClosed) {
				t.Errorf("fill after close: %v", err)
			}
		})
	}
}

// TestTotal: files share the room, which is given back, and one body never gets more.
func TestTotal(t *testing.T) {
	d, _ := open(t, 3<<20)
	mib := func(n int) [][]byte { return [][]byte{make([]byte, n<<20)} }
	a, b := d.New(), d.New()
	if err := a.Append(mib(2)); err != nil {
		t.Fatal(err)
	}
	if err := b.Append(mib(1)); err != nil {
		t.Fatal(err)
	}
	expect(t, d, 3<<20, 2)
	if err := b.Append([][]byte{{1}}); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if err := a.Append(mib(2)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	small := d.New()
	if err := small.Append([][]byte{{1}}); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	small.Close()
	a.Close()
	if err := b.Append([][]byte{{1}}); err != nil || b.Size() != 1<<20+1 {
		t.Errorf("%v, size %d", err, b.Size())
	}
	expect(t, d, 2<<20, 1)
	b.Close()
	expect(t, d, 0, 0)
}

// TestShortWrites: a call that writes a part is followed by another one; one that fails leaves
// the file as it was.
func TestShortWrites(t *testing.T) {
	d, _ := open(t, 8<<20)
	d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
		return unix.Pwrite(fd, pieces[0][:min(len(pieces[0]), 1000)], offset)
	})
	f := d.New()
	want := bytes.Repeat([]byte("abcdefg"), 1234)
	if err := f.Append([][]byte{want[:10], want[10:5000], want[5000:]}); err != nil {
		t.Fatal(err)
	}
	calls := 0
	d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
		if calls++; calls > 1 {
			return 0, unix.ENOSPC
		}
		return unix.Pwrite(fd, pieces[0][:1], offset)
	})
	if err := f.Append([][]byte{want}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	got := make([]byte, 2*len(want))
	if n, err := f.Fill(got, 0); err != nil || !bytes.Equal(got[:n], want) {
		t.Errorf("%d bytes, %v", n, err)
	}
	f.Close()
}

// TestCloseDuringCall: a file that is in use goes when that ends, with its room.
func TestCloseDuringCall(t *testing.T) {
	d, _ := open(t, 8<<20)
	began, goOn := make(chan bool), make(chan bool)
	d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
		close(began)
		<-goOn
		return unix.Pwritev(fd, pieces, offset)
	})
	f, done := d.New(), make(chan error)
	go func() { done <- f.Append([][]byte{{1}}) }()
	<-began
	f.Close()
	expect(t, d, model.LeastSpool, 1)
	close(goOn)
	if err := <-done; err != nil {
		t.Errorf("%v", err)
	}
	expect(t, d, 0, 0)
}

// TestOpenSaysWhy: a folder that is of no use is found out at once.
func TestOpenSaysWhy(t *testing.T) {
	if _, err := Open(t.TempDir()+"/none", 1<<20); err == nil || !strings.Contains(err.Error(), "/none: no such file") {
		t.Errorf("%v", err)
	}
	if _, err := Open("/proc/self", 1<<20); err == nil || !strings.Contains(err.Error(), "make a file in /proc/self: ") {
		t.Errorf("%v", err)
	}
}

// TestDiskFull: a file system that has no space left says so, and has it again when the file goes.
func TestDiskFull(t *testing.T) {
	d, err := Open(tinyTmpfs(t, "2m"), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f := d.New()
	piece := [][]byte{make([]byte, 512<<10)}
	for deadline := time.Now().Add(time.Minute); ; {
		err := f.Append(piece)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("after %d bytes: %v", f.Size(), err)
		}
	}
	if f.Size() < 1<<20 || f.Size() > 2<<20 {
		t.Errorf("it was full after %d bytes", f.Size())
	}
	f.Close()
	expect(t, d, 0, 0)
	f = d.New()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // the file goes by itself
		err := f.Append(piece)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOSPC) || time.Now().After(deadline) {
			t.Fatalf("after the file has gone: %v", err)
		}
	}
	f.Close()
}

// TestKilled: a process that is killed leaves neither a name nor a byte behind.
func TestKilled(t *testing.T) {
	const child = "KERNGATE_TEST_SPOOL"
	if path := os.Getenv(child); path != "" {
		d, err := Open(path, 1<<30)
		if err == nil {
			err = d.New().Append([][]byte{make([]byte, 1<<20)})
		}
		fmt.Println("written", err)
		select {} // until it is killed
	}
	path := tinyTmpfs(t, "2m")
	folder, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	free := func() uint64 {
		t.Helper()
		var s unix.Statfs_t
		if err := unix.Fstatfs(int(folder.Fd()), &s); err != nil {
			t.Fatal(err)
		}
		return s.Bfree * uint64(s.Bsize)
	}
	before := free()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), child+"=/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{folder}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { // of every path out of here
		cmd.Process.Kill()
		cmd.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "written <nil>\n" {
		t.Fatalf("%q %v", line, err)
	}
	if used := before - free(); used < 1<<20 {
		t.Errorf("%d bytes are taken", used)
	}
	if list := names(t, path); len(list) > 0 {
		t.Errorf("the folder shows %q", list)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if after := free(); after != before {
		t.Errorf("%d bytes are free, %d were before", after, before)
	}
	if list := names(t, path); len(list) > 0 {
		t.Errorf("the folder shows %q", list)
	}
}

// tinyTmpfs returns the path of a file system of its own that nobody else sees.
func tinyTmpfs(t *testing.T, size string) string {
	t.Helper()
	context, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.EPERM) {
		t.Skip("a file system of its own needs CAP_SYS_ADMIN")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigSetString(context, "size", size); err != nil {
		t.Fatal(err)
	}
	if err := unix.FsconfigCreate(context); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}
