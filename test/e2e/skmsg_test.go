//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// joinedSite is a site whose connections to pods are joined (--sk-msg).
func joinedSite(t *testing.T, pods int) *site {
	t.Helper()
	s := prepareSite(t, 1, []app{{"web", pods}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--large-requests", "chunked", "--sk-msg")
	s.start()
	s.get("http://" + webHost + "/")
	if s.joins("joined") == 0 {
		t.Fatal("a connection to a pod of this node was not joined")
	}
	return s
}

// joins returns what the kernel has counted under this event.
func (s *site) joins(event string) int {
	s.t.Helper()
	line := s.metrics(lab.MetricsAddress, `kerngate_kernel_sk_msg_total{event="`+event+`"}`)
	if line == "" {
		return 0
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:]), 64)
	must(s.t, err)
	return int(n)
}

// Bodies of 1 byte to 64 MiB arrive whole in both directions, with either framing, on
// connections that are used again and again.
func TestSkMsgBodies(t *testing.T) {
	s := joinedSite(t, 1)
	client := s.http[s.lab.VIP4]
	for round, sizes := range [][]int64{{1, 100, 4 << 10, 70_000}, {512 << 10, 1 << 20, 1<<20 + 1, 5 << 20}, {1, large, 100, 200_000}} {
		for _, size := range sizes {
			want := sumOfXs(t, size)
			for _, chunked := range []bool{false, true} {
				request, err := http.NewRequest(http.MethodPut, "http://"+webHost+"/upload", xs(size))
				must(t, err)
				if !chunked {
					request.ContentLength = size
				}
				response, err := client.Do(request)
				must(t, err)
				r, err := readReply(response)
				must(t, err)
				if r.Status != 200 || r.Pod.BodyBytes != size || r.Pod.BodySHA256 != want {
					t.Errorf("round %d, upload of %d bytes, chunked %t: status %d, the pod got %d", round, size, chunked, r.Status, r.Pod.BodyBytes)
				}
				url := fmt.Sprintf("http://%s/?size=%d", webHost, size)
				if chunked {
					url += "&chunks=7"
				}
				response, err = client.Get(url)
				must(t, err)
				sum := sha256.New()
				n, err := io.Copy(sum, response.Body)
				response.Body.Close()
				if err != nil || n != size || hex.EncodeToString(sum.Sum(nil)) != want {
					t.Errorf("round %d, download of %d bytes, chunked %t: got %d, %v", round, size, chunked, n, err)
				}
			}
		}
	}
	if s.joins("past_tcp") == 0 || s.joins("window_full") == 0 {
		t.Errorf("%d messages past TCP, %d directions changed to TCP; want both", s.joins("past_tcp"), s.joins("window_full"))
	}
}

// A client that does not read holds its pod back: no more lies in the kernel than the window
// and what TCP holds. Then everything arrives. The same with a pod that reads slowly.
func TestSkMsgBackPressure(t *testing.T) {
	s := joinedSite(t, 1)
	const transfers = 4
	want := sumOfXs(t, large)
	full := s.joins("window_full")
	var downloads []*http.Response
	for range transfers {
		response, err := s.http[s.lab.VIP4].Get(fmt.Sprintf("http://%s/?size=%d", webHost, large))
		must(t, err)
		defer response.Body.Close()
		downloads = append(downloads, response)
	}
	uploads := make(chan error, transfers)
	for range transfers {
		go func() {
			request, err := http.NewRequest(http.MethodPost, "http://"+webHost+"/?read=1ms", xs(large))
			if err != nil {
				uploads <- err
				return
			}
			response, err := s.http[s.lab.VIP4].Do(request)
			if err != nil {
				uploads <- err
				return
			}
			r, err := readReply(response)
			if err == nil && (r.Pod.BodyBytes != large || r.Pod.BodySHA256 != want) {
				err = fmt.Errorf("the pod got %d bytes", r.Pod.BodyBytes)
			}
			uploads <- err
		}()
	}
	must(t, lab.Until(10*time.Second, "directions that change to TCP", func() error {
		if s.joins("window_full")-full < 2*transfers {
			return lab.ErrNotYet
		}
		return nil
	}))
	for i, response := range downloads {
		sum := sha256.New()
		if n, err := io.Copy(sum, response.Body); err != nil || n != large || hex.EncodeToString(sum.Sum(nil)) != want {
			t.Errorf("download %d: %d bytes, %v", i, n, err)
		}
	}
	for range transfers {
		if err := <-uploads; err != nil {
			t.Errorf("upload: %v", err)
		}
	}
}

// Pods are killed in the middle of bodies and started again, under load: whoever was being
// answered is told, nobody waits, and afterwards nothing is wrong.
func TestSkMsgPodKilled(t *testing.T) {
	s := joinedSite(t, 2)
	pod := s.pods["web"][0]
	for range 3 {
		run := s.steady(16, 1000)
		s.waitMore(run, 300)
		held, err := s.http[s.lab.VIP4].Get(fmt.Sprintf("http://%s/?size=%d", webHost, large))
		must(t, err)
		must(t, syscall.Kill(s.web[pod.Name].PID, syscall.SIGKILL))
		s.waitMore(run, 300)
		s.serve(pod, "web")
		s.waitMore(run, 300)
		// A request that was with the pod fails at once; the others go on.
		if result := run.Stop(); result.Failed > 64 {
			t.Errorf("%d of %d requests failed when a pod of two was killed once", result.Failed, result.Requests)
		}
		began := time.Now()
		n, err := io.Copy(io.Discard, held.Body)
		held.Body.Close()
		if (err == nil) != (n == large) || time.Since(began) > 10*time.Second {
			t.Errorf("a download that may have been with the killed pod: %d bytes, %v, after %v", n, err, time.Since(began))
		}
		after := s.steady(16, 1000)
		s.waitMore(after, 300)
		s.wantNoFailure(after, "after the pod is back")
	}
}

// Agents are killed, restarted, and started without the option under load: no request fails,
// what is joined goes on, and the option does what it says for connections that come.
func TestSkMsgAgentRestarts(t *testing.T) {
	s := joinedSite(t, 2)
	run := s.steady(16, 1000)
	for round := range 3 {
		s.waitMore(run, 300)
		s.Agent.Kill()
		s.waitMore(run, 300)
		must(t, s.Kerngate.Start())
		// It takes over, or is killed at its self-test, as it happens.
		s.waitMore(run, 300+2000*round)
	}
	pin := filepath.Join(s.Pins(), "link_sockops")
	if !exists(pin) {
		t.Errorf("%s is not there", pin)
	}
	s.Agent.Kill()
	s.Args = s.Args[:len(s.Args)-1] // --sk-msg
	must(t, s.Kerngate.Start())
	must(t, lab.Until(20*time.Second, "the end of the pin without --sk-msg", func() error {
		if exists(pin) {
			return lab.ErrNotYet
		}
		return nil
	}))
	s.waitMore(run, 300)
	s.wantNoFailure(run, "agents killed, restarted and started without --sk-msg")
}

// A Service can keep its pods to TCP.
func TestSkMsgOptOut(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.annotate("web", "kerngate.dev/sk-msg", "false")
	s.Args = append(s.Args, "--sk-msg")
	s.start()
	s.get("http://" + webHost + "/")
	if n := s.joins("asked"); n != 0 {
		t.Errorf("%d connections to be joined were asked for", n)
	}
	s.annotate("web", "kerngate.dev/sk-msg", "true")
	s.eventually("http://"+webHost+"/", "a connection that is joined", func(*reply) bool { return s.joins("joined") > 0 })
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
