//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

const large = 64 << 20

// xs is a reader of n times the letter x.
func xs(n int64) io.Reader { return io.LimitReader(endlessX{}, n) }

type endlessX struct{}

func (endlessX) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func sumOfXs(t *testing.T, n int64) string {
	t.Helper()
	sum := sha256.New()
	_, err := io.Copy(sum, xs(n))
	must(t, err)
	return hex.EncodeToString(sum.Sum(nil))
}

// residentMiB is the resident memory of all proxies of the site, in MiB.
func (s *site) residentMiB() int {
	s.t.Helper()
	pids, err := s.ProxyPIDs()
	must(s.t, err)
	if len(pids) == 0 {
		s.t.Fatal("no proxy runs")
	}
	total := 0
	for _, pid := range pids {
		total += procStatusKiB(s.t, pid, "VmRSS") / 1024
	}
	return total
}

func procStatusKiB(t *testing.T, pid int, field string) int {
	t.Helper()
	value, err := strconv.Atoi(strings.TrimSuffix(procStatus(t, pid)[field], " kB"))
	must(t, err)
	return value
}

// procStatus returns the fields of /proc/PID/status.
func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

// 64 MiB in either direction arrive whole, with either framing.
func TestLargeBodies(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--large-requests", "chunked")
	s.start()
	want := sumOfXs(t, large)
	for _, framing := range []string{"Content-Length", "chunked"} {
		t.Run("upload with "+framing, func(t *testing.T) {
			request, err := http.NewRequest(http.MethodPut, "http://"+webHost+"/upload", xs(large))
			must(t, err)
			if framing == "Content-Length" {
				request.ContentLength = large
			}
			response, err := s.http[s.lab.VIP4].Do(request)
			must(t, err)
			r, err := readReply(response)
			must(t, err)
			if r.Status != 200 || r.Pod.BodyBytes != large || r.Pod.BodySHA256 != want {
				t.Errorf("status %d, the pod got %d bytes, sum %s", r.Status, r.Pod.BodyBytes, r.Pod.BodySHA256)
			}
		})
		t.Run("download with "+framing, func(t *testing.T) {
			url := fmt.Sprintf("http://%s/?size=%d", webHost, large)
			if framing == "chunked" {
				url += "&chunks=512"
			}
			response, err := s.http[s.lab.VIP4].Get(url)
			must(t, err)
			defer response.Body.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, response.Body)
			must(t, err)
			if n != large || hex.EncodeToString(sum.Sum(nil)) != want {
				t.Errorf("got %d bytes", n)
			}
		})
	}
}

// A slow reader on either side holds the sender back: the proxy does not take in what it
// cannot pass on.
func TestBackPressure(t *testing.T) {
	s := webSite(t, 1)
	s.get("http://" + webHost + "/") // warm
	before := s.residentMiB()

	// 1. Eight clients ask for 64 MiB each and read nothing for a while.
	var downloads []*http.Response
	for range 8 {
		response, err := s.http[s.lab.VIP4].Get(fmt.Sprintf("http://%s/?size=%d", webHost, large))
		must(t, err)
		defer response.Body.Close()
		downloads = append(downloads, response)
	}
	// 2. Four clients send 64 MiB to a pod that reads slowly.
	for range 4 {
		go func() {
			request, err := http.NewRequest(http.MethodPost, "http://"+webHost+"/?read=20ms", xs(large))
			if err != nil {
				return
			}
			if response, err := s.http[s.lab.VIP4].Do(request); err == nil {
				response.Body.Close()
			}
		}()
	}
	peak := before
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		peak = max(peak, s.residentMiB())
	}
	report(t, "resident memory of the proxy: %d MiB before, %d MiB at most with 12 held-back transfers of 64 MiB", before, peak)
	if peak-before > 48 {
		t.Errorf("the proxy's memory grew from %d to %d MiB; it buffers without bound", before, peak)
	}
	// 3. What was held back still arrives whole.
	for i, response := range downloads {
		if n, err := io.Copy(io.Discard, response.Body); err != nil || n != large {
			t.Errorf("download %d: %d bytes, %v", i, n, err)
		}
	}
}
