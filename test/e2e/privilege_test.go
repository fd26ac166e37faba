//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/proxy/confine"
)

// The proxy, which faces the clients, holds nothing that would serve an attacker: no root, no
// capability, no way to get one, no file outside its own few.
func TestProxyIsUnprivileged(t *testing.T) {
	s := webSite(t, 1)
	s.get("http://" + webHost + "/")
	pids, err := s.ProxyPIDs()
	must(t, err)
	if len(pids) != 1 {
		t.Fatalf("proxies: %v, want one", pids)
	}
	fields := procStatus(t, pids[0])
	for field, want := range map[string]string{
		"Uid":    "65532\t65532\t65532\t65532",
		"Gid":    "65532\t65532\t65532\t65532",
		"Groups": "",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapAmb":     "0000000000000000",
		"NoNewPrivs": "1", // so that the bounding set means nothing
		"Seccomp":    "2", // a filter
	} {
		if fields[field] != want {
			t.Errorf("%s of the proxy is %q, want %q", field, fields[field], want)
		}
	}
	// Every thread, since Linux keeps capabilities by thread.
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pids[0]))
	must(t, err)
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pids[0], task.Name()))
		if err != nil {
			continue // ended meanwhile
		}
		if !strings.Contains(string(text), "CapEff:\t0000000000000000") {
			t.Errorf("thread %s of the proxy has capabilities", task.Name())
		}
		if !strings.Contains(string(text), "NoNewPrivs:\t1") || !strings.Contains(string(text), "Seccomp:\t2") {
			t.Errorf("thread %s of the proxy is not restricted:\n%s", task.Name(), text)
		}
	}
	// What it cannot raise itself the agent has raised for it, if that may.
	var want syscall.Rlimit
	must(t, syscall.Getrlimit(unix.RLIMIT_NOFILE, &want))
	if most := (syscall.Rlimit{Cur: max(1<<20, want.Max), Max: max(1<<20, want.Max)}); syscall.Setrlimit(unix.RLIMIT_NOFILE, &most) == nil {
		want = most
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pids[0]))
	must(t, err)
	files := regexp.MustCompile(`Max open files\s+(\d+)`).FindSubmatch(limits)
	if n, _ := strconv.Atoi(string(files[1])); uint64(n) != want.Max {
		t.Errorf("the proxy may open %d files, want %d", n, want.Max)
	}
	for _, open := range openFiles(t, pids[0]) {
		allowed := []string{"socket:", "pipe:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]", "anon_inode:[pidfd]", "/dev/null",
			"/sys/fs/cgroup/", // CPU limits, read by the Go runtime
			s.lab.Dir}
		if !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(open, prefix) }) {
			t.Errorf("the proxy holds %s open", open)
		}
	}
	// No descriptor of a BPF map stays open (above): the proxy has them mapped, two of them
	// writable, its workers' and its backends' load. It cannot redirect anybody.
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pids[0]))
	must(t, err)
	var readable, writable int
	for line := range strings.Lines(string(maps)) {
		if fields := strings.Fields(line); strings.Contains(line, "bpf-map") {
			readable++
			if strings.Contains(fields[1], "w") {
				writable++
			}
		}
	}
	if readable < 5 || writable != 2 {
		t.Errorf("the proxy has %d BPF maps in its memory, %d of them writable, want at least 5 and 2:\n%s", readable, writable, maps)
	}
}

// TestProxyIsConfined: nobody but root looks into the proxy, also no process of its own user, and it
// tells which restrictions it has put on itself.
func TestProxyIsConfined(t *testing.T) {
	s := webSite(t, 1)
	s.get("http://" + webHost + "/")
	pids, err := s.ProxyPIDs()
	must(t, err)
	memory := fmt.Sprintf("/proc/%d/mem", pids[0])
	var st unix.Stat_t
	must(t, unix.Stat(memory, &st))
	if st.Uid != 0 {
		t.Errorf("%s belongs to user %d, want root: the proxy is dumpable", memory, st.Uid)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pids[0]))
	must(t, err)
	if !regexp.MustCompile(`Max core file size\s+0\s+0\s`).Match(limits) {
		t.Errorf("core dumps of the proxy are not limited to nothing:\n%s", limits)
	}
	asProxy := exec.Command("cat", fmt.Sprintf("/proc/%d/maps", pids[0]))
	asProxy.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: lab.ProxyUser, Gid: lab.ProxyUser}}
	if out, err := asProxy.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("another process of the proxy's user reads its memory map: %v\n%.200s", err, out)
	}
	for _, own := range []string{"process_open_fds", "process_resident_memory_bytes"} { // of /proc/self
		if s.metrics(lab.ProxyMetricsAddress, own) == "" {
			t.Errorf("the proxy does not tell %s", own)
		}
	}
	told := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_confined")
	for _, wall := range []string{confine.Undumpable, confine.NoNewPrivs, confine.Seccomp} {
		if !strings.Contains(told, `{wall="`+wall+`"} 1`) {
			t.Errorf("%s is not in force:\n%s", wall, told)
		}
	}
	out, err := s.Ctl("status", "-o", "json")
	must(t, err)
	var node struct{ Agent status.Status }
	must(t, json.Unmarshal([]byte(out), &node))
	var names []string
	for _, w := range node.Agent.Proxies[0].Walls {
		names = append(names, w.Name)
		if w.InForce == (w.Missing != "") || w.InForce != strings.Contains(told, `{wall="`+w.Name+`"} 1`) {
			t.Errorf("kerngatectl status says %+v, the proxy:\n%s", w, told)
		}
	}
	if want := []string{confine.Undumpable, confine.NoNewPrivs, confine.Landlock, confine.Seccomp}; !slices.Equal(names, want) {
		t.Errorf("kerngatectl status knows the restrictions %v, want %v", names, want)
	}
}

// openFiles lists what the process's descriptors refer to.
func openFiles(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	must(t, err)
	var files []string
	for _, entry := range entries {
		if target, err := os.Readlink(dir + "/" + entry.Name()); err == nil {
			files = append(files, target)
		}
	}
	return files
}

// Descriptors do not pile up over many connections, clean and broken ones.
func TestDescriptorsDoNotLeak(t *testing.T) {
	s := webSite(t, 1)
	count := func() int {
		pids, err := s.ProxyPIDs()
		must(t, err)
		return len(openFiles(t, pids[0]))
	}
	round := func() {
		for i := range 100 {
			w := s.dial()
			w.send("GET /?size=50000 HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
			if i%3 > 0 {
				w.receive("GET")
			}
			if i%3 == 1 {
				w.send("POST / HTTP/1.1\r\nHost: host.example.com\r\nContent-Length: 1000\r\n\r\nhalf")
			}
			w.Close()
		}
	}
	round()
	before := count()
	for range 5 {
		round()
	}
	s.eventually("http://"+webHost+"/", "as many descriptors as before", func(*reply) bool { return count() <= before+10 })
}
