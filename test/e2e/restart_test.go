//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/websocket"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// The agent is killed and started again, several times, under load: nobody notices, the same
// proxy goes on, and changes made meanwhile are taken up.
func TestAgentKilledUnderLoad(t *testing.T) {
	s := webSite(t, 3)
	proxies, err := s.ProxyPIDs()
	must(t, err)
	if len(proxies) != 1 {
		t.Fatalf("proxies: %v, want one", proxies)
	}
	ws, err := s.openWebSocket()
	must(t, err)
	run := s.steady(16, 1000)
	s.waitMore(run, 200)
	for i := range 3 {
		s.Agent.Kill()
		s.waitMore(run, 300)
		s.publish("web", s.pods["web"][i])
		must(t, s.Kerngate.Start())
		s.onlyAnswer(s.pods["web"][i].Name)
		s.waitMore(run, 200)
	}
	s.wantNoFailure(run, "agent killed and restarted three times")
	if err := ws.Echo([]byte("still there"), 5*time.Second); err != nil {
		t.Errorf("the WebSocket was cut: %v", err)
	}
	after, err := s.ProxyPIDs()
	must(t, err)
	if !slices.Equal(proxies, after) {
		t.Errorf("proxies were %v and are %v: the new agent did not adopt the old proxy", proxies, after)
	}
}

// TestAgentThatCannotTakeOver: an agent without a capability that it needs, started beside the one
// that runs, ends with an error that names it, and nobody notices. One that has all waits for its turn,
// and takes over when the other one has ended.
func TestAgentThatCannotTakeOver(t *testing.T) {
	s := webSite(t, 2)
	run := s.steady(8, 500)
	s.waitMore(run, 100)
	for capability, says := range map[string]string{"bpf": "CAP_BPF", "net_admin": "CAP_NET_ADMIN"} {
		unable, err := s.Kerngate.StartAnother("unable-"+says, capability, "sys_admin")
		must(t, err)
		select {
		case <-unable.Done():
		case <-time.After(time.Minute):
			unable.Kill()
			t.Fatalf("an agent without %s waits for its turn", says)
		}
		log := unable.LogTail(5)
		if unable.ExitCode() == 0 || !strings.Contains(log, says) || !strings.Contains(log, "cannot take over from the one that runs, which goes on") {
			t.Errorf("without %s: exit status %d, %s", says, unable.ExitCode(), log)
		}
	}
	s.waitMore(run, 300)
	able, err := s.Kerngate.StartAnother("able")
	must(t, err)
	t.Cleanup(func() { able.Kill() })
	must(t, lab.Until(time.Minute, "the next agent is able", func() error {
		if log := able.LogTail(5); !strings.Contains(log, "is able to take over") {
			return fmt.Errorf("it says %s", log)
		}
		return nil
	}))
	s.waitMore(run, 300)
	s.Agent.Kill()
	must(t, lab.Until(time.Minute, "the next agent has taken over", func() error {
		out, err := s.Kerngate.Ctl("status", "-o", "json")
		if err == nil && !strings.Contains(out, `"synced": true`) && !strings.Contains(out, `"synced":true`) {
			err = errors.New(out)
		}
		return err
	}))
	s.waitMore(run, 300)
	s.wantNoFailure(run, "agents that could not take over, and one that did")
	able.Kill()
	must(t, s.Kerngate.Start())
}

// onlyAnswer waits until that pod alone answers.
func (s *site) onlyAnswer(pod string) {
	s.t.Helper()
	must(s.t, lab.Until(15*time.Second, "answers of "+pod+" alone", func() error {
		for range 10 {
			r, err := s.do("GET", "http://"+webHost+"/", nil)
			if err != nil {
				return err
			}
			if r.Pod.Pod != pod {
				return fmt.Errorf("status %d from %q", r.Status, r.Pod.Pod)
			}
		}
		return nil
	}))
}

// A proxy that is killed is replaced; no connection hangs longer than a moment.
func TestProxyKilled(t *testing.T) {
	s := webSite(t, 2)
	for range 3 {
		before, err := s.ProxyPIDs()
		must(t, err)
		if len(before) != 1 {
			t.Fatalf("proxies: %v, want one", before)
		}
		must(t, syscall.Kill(before[0], syscall.SIGKILL))
		begin := time.Now()
		s.http[s.lab.VIP4].CloseIdleConnections()
		s.eventually("http://"+webHost+"/", "an answer after the proxy was killed", func(r *reply) bool { return r.Status == 200 })
		report(t, "answers again %s after kill -9 of the proxy", time.Since(begin).Round(time.Millisecond))
		after, err := s.ProxyPIDs()
		must(t, err)
		if len(after) != 1 || after[0] == before[0] {
			t.Errorf("proxies: before %v, after %v", before, after)
		}
	}
}

// A second proxy takes over from the first under load, as in a rolling upgrade: keep-alive
// clients are moved with "Connection: close", WebSockets stay where they are until the drain
// limit, and no request fails. Then a third takes over from the second.
func TestProxyGenerations(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 3}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--run-proxy=false")
	must(t, s.Kerngate.Start())
	first, err := s.startProxyWhenPossible("proxy-1")
	must(t, err)
	must(t, s.WaitServing(s.lab.Client, 20*time.Second))

	var sockets []*websocket.Client
	for range 5 {
		ws, err := s.openWebSocket()
		must(t, err)
		sockets = append(sockets, ws)
	}
	run := s.steady(16, 1000)
	s.waitMore(run, 300)
	proxies := []*lab.Process{first}
	for _, name := range []string{"proxy-2", "proxy-3"} {
		proxy, err := s.StartProxy(name, nil)
		must(t, err)
		proxies = append(proxies, proxy)
		s.servesAlone(proxy.PID)
		for i, ws := range sockets {
			if err := ws.Echo([]byte("still there"), 5*time.Second); err != nil {
				t.Errorf("WebSocket %d was cut by %s: %v", i, name, err)
			}
		}
		s.waitMore(run, 500)
	}
	s.wantNoFailure(run, "two proxies replaced by the next generation")

	// The first proxy has nothing left to do once its WebSockets are closed.
	for _, ws := range sockets {
		if err := ws.Close(); err != nil {
			t.Errorf("close a WebSocket: %v", err)
		}
	}
	for i, proxy := range proxies[:2] {
		select {
		case <-proxy.Done():
			if code := proxy.ExitCode(); code != 0 {
				t.Errorf("proxy-%d ended with %d: %s", i+1, code, proxy.LogTail(5))
			}
		case <-time.After(20 * time.Second):
			t.Errorf("proxy-%d still runs though it was drained and has no connection: %s", i+1, proxy.LogTail(5))
		}
	}
	if r := s.get("http://" + webHost + "/"); r.Status != 200 {
		t.Errorf("after the hand-overs: %d %s", r.Status, r.Body)
	}
}

// servesAlone waits until the proxy of that process id gets the new connections.
func (s *site) servesAlone(pid int) {
	s.t.Helper()
	must(s.t, lab.Until(15*time.Second, fmt.Sprintf("proxy %d to serve", pid), func() error {
		out, err := s.Ctl("status", "-o", "json")
		if err != nil {
			return err
		}
		var told struct{ Agent *status.Status }
		if err := json.Unmarshal([]byte(out), &told); err != nil || told.Agent == nil {
			return fmt.Errorf("kerngatectl status: %w, %s", err, out)
		}
		for _, generation := range told.Agent.Proxies {
			if generation.PID == pid && generation.State == "serving" {
				return nil
			}
		}
		return fmt.Errorf("proxies: %+v", told.Agent.Proxies)
	}))
}

// startProxyWhenPossible starts a proxy after the agent's socket is there.
func (s *site) startProxyWhenPossible(name string) (*lab.Process, error) {
	err := lab.Until(10*time.Second, "the agent's socket", func() error {
		_, err := s.Ctl("status")
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.StartProxy(name, nil)
}

// SIGHUP makes the agent start a new proxy, to which the connections move; the old one ends.
func TestReplaceProxyBySignal(t *testing.T) {
	s := webSite(t, 2)
	before, err := s.ProxyPIDs()
	must(t, err)
	run := s.steady(8, 500)
	s.waitMore(run, 100)
	must(t, s.Agent.Signal(syscall.SIGHUP))
	must(t, lab.Until(15*time.Second, "the new proxy alone", func() error {
		pids, err := s.ProxyPIDs()
		if err == nil && (len(pids) != 1 || pids[0] == before[0]) {
			err = fmt.Errorf("proxies %v, before %v", pids, before)
		}
		return err
	}))
	s.waitMore(run, 100)
	s.wantNoFailure(run, "proxy replaced by SIGHUP")
}

// SIGTERM of the agent stops its proxy in an orderly way: requests under way are answered,
// and a client that keeps an idle connection does not hold it up.
func TestAgentStops(t *testing.T) {
	s := webSite(t, 1)
	s.get("http://" + webHost + "/") // its connection stays open
	answered := make(chan error, 1)
	w := s.dial()
	w.send("GET /?delay=1s HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
	go func() {
		r, err := w.tryReceive("GET")
		if err == nil && r.Status != 200 {
			err = fmt.Errorf("status %d %s", r.Status, r.Body)
		}
		answered <- err
	}()
	s.waitInFlight(1)
	must(t, s.Agent.Signal(syscall.SIGTERM))
	select {
	case <-s.Agent.Done():
	case <-time.After(15 * time.Second):
		t.Fatal("the agent did not end within 15 s of SIGTERM")
	}
	if err := <-answered; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	if code := s.Agent.ExitCode(); code != 0 {
		t.Errorf("exit code %d after SIGTERM: %s", code, s.Agent.LogTail(5))
	}
	must(t, lab.Until(10*time.Second, "end of the proxy", func() error {
		pids, err := s.ProxyPIDs()
		if err == nil && len(pids) > 0 {
			err = fmt.Errorf("proxies %v run", pids)
		}
		return err
	}))
}
