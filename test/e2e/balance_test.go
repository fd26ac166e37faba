//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/load"
)

// Requests reach every pod of a service, on this node and on others, about equally often.
func TestBalancing(t *testing.T) {
	s := newSite(t, 2, []app{{"web", 10}}, lab.Path{Host: webHost, Service: "web"})
	for _, vip := range s.vips() {
		answered := make(map[string]int)
		for range 200 {
			r, err := s.doVia(vip, http.MethodGet, "http://"+webHost+"/", nil)
			must(t, err)
			answered[r.Pod.Pod]++
		}
		report(t, "answers of 200 by pod via %s: %v", vip, answered)
		for _, pod := range s.pods["web"] {
			if n := answered[pod.Name]; n < 3 || n > 50 {
				t.Errorf("pod %s answered %d of 200 via %s", pod.Name, n, vip)
			}
		}
	}
}

// annotate writes the manifests of a service with an annotation.
func (s *site) annotate(service, key, value string) {
	s.t.Helper()
	object := lab.Service(service)
	object["metadata"].(lab.Object)["annotations"] = lab.Object{key: value}
	var endpoints []lab.Endpoint
	for _, pod := range s.pods[service] {
		endpoints = append(endpoints, pod.Endpoint(false))
	}
	must(s.t, s.Manifests.Write(service+".yaml", object, lab.EndpointSlice(service, endpoints...)))
}

// Round robin gives each pod the same number of a worker's requests.
func TestRoundRobin(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 4}}, lab.Path{Host: webHost, Service: "web"})
	s.annotate("web", "kerngate.dev/load-balancing", "round-robin")
	s.start()
	w := s.dial() // one connection, so one worker
	answered := make(map[string]int)
	for range 40 {
		w.send("GET / HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		answered[w.receive("GET").Pod.Pod]++
	}
	for _, pod := range s.pods["web"] {
		if answered[pod.Name] != 10 {
			t.Errorf("answers of 40 by pod: %v, want 10 of each", answered)
			break
		}
	}
}

// With prefer-local, pods of this node get everything while there is one that is ready, and
// those of other nodes when there is none.
func TestPreferLocal(t *testing.T) {
	s := prepareSite(t, 2, []app{{"web", 4}}, lab.Path{Host: webHost, Service: "web"})
	s.annotate("web", "kerngate.dev/prefer-local", "true")
	s.start()
	answers := func() (names []string) {
		answered := make(map[string]bool)
		for range 40 {
			r := s.get("http://" + webHost + "/")
			if r.Status != http.StatusOK {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			answered[r.Pod.Pod] = true
		}
		for name := range answered {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	if got := answers(); !slices.Equal(got, []string{"web-1", "web-3"}) {
		t.Errorf("answered: %v, want the local web-1 and web-3", got)
	}
	s.pods["web"] = []*lab.Pod{s.pods["web"][1], s.pods["web"][3]}
	s.annotate("web", "kerngate.dev/prefer-local", "true")
	must(t, lab.Until(5*time.Second, "answers of the remote pods", func() error {
		if got := answers(); !slices.Equal(got, []string{"web-2", "web-4"}) {
			return fmt.Errorf("answered: %v", got)
		}
		return nil
	}))
}

// A pod with many requests under way gets no more while others are idle: the counts in the
// maps are those of all workers.
func TestLeastLoaded(t *testing.T) {
	s := webSite(t, 3)
	pods := s.pods["web"]
	s.publish("web", pods[0])
	s.onlyAnswer(pods[0].Name)
	var slow sync.WaitGroup
	for range 12 {
		slow.Go(func() {
			if r, err := s.do(http.MethodGet, "http://"+webHost+"/?delay=3s", nil); err != nil || r.Status != 200 {
				t.Errorf("slow request: %v, %v", r, err)
			}
		})
	}
	defer slow.Wait()
	s.waitInFlight(12)
	s.publish("web", pods...)
	s.eventually("http://"+webHost+"/", "an answer of another pod", func(r *reply) bool { return r.Pod.Pod != pods[0].Name })
	for range 60 {
		if r := s.get("http://" + webHost + "/"); r.Pod.Pod == pods[0].Name {
			t.Fatal("the pod with 12 requests under way got another while two pods were idle")
		}
	}
}

// waitInFlight waits until the maps show that many requests under way.
func (s *site) waitInFlight(n uint64) {
	s.t.Helper()
	must(s.t, lab.Until(5*time.Second, fmt.Sprintf("%d requests in flight", n), func() error {
		backends, err := s.backends()
		if err != nil {
			return err
		}
		var total uint64
		for _, b := range backends {
			total += b.InFlight
		}
		if total != n {
			return fmt.Errorf("the maps show %d", total)
		}
		return nil
	}))
}

// Pods are replaced one by one, as a Deployment does: the new one is published, the old one
// withdrawn and, when its requests are done, ended. No request fails.
func TestRollingUpdate(t *testing.T) {
	s := webSite(t, 3)
	run := s.steady(16, 1000)
	s.waitMore(run, 200)
	live := slices.Clone(s.pods["web"])
	for i := range 6 {
		pod, err := s.Node.AddPod(fmt.Sprintf("new-%d", i))
		must(t, err)
		s.serve(pod, "web")
		old := live[0]
		live = append(live[1:], pod)
		s.publish("web", live...)
		// Withdrawn when the maps no longer have it in a block, and unused soon after.
		must(t, lab.Until(5*time.Second, "the old pod to be unused", func() error {
			backends, err := s.backends()
			if err != nil {
				return err
			}
			for _, b := range backends {
				if b.Address == netip.AddrPortFrom(old.IPv4, lab.PodPort).String() && (len(b.Services) > 0 || b.InFlight > 0) {
					return fmt.Errorf("%+v", b)
				}
			}
			return nil
		}))
		s.waitMore(run, 50) // requests that picked it before count as in flight by now
		s.web[old.Name].Kill()
		s.waitMore(run, 100)
	}
	s.wantNoFailure(run, "six pods replaced")
}

// A pod that dies without notice costs the requests that it had, and no others: what has not
// reached it is sent elsewhere.
func TestPodDies(t *testing.T) {
	s := webSite(t, 3)
	run := load.Start(load.Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 80).String())
		},
		Connections: 8, Rate: 800, Requests: []load.Request{{Host: webHost, Path: "/"}},
	})
	s.waitMore(run, 200)
	s.web["web-2"].Kill()
	s.waitMore(run, 800)
	result := run.Stop()
	report(t, "a pod killed under load: %s", result)
	if result.Failed > 8 {
		t.Errorf("%d requests failed, want at most those that the pod had: one of each of 8 connections", result.Failed)
	}
	for why := range result.Reasons {
		if why != "status 502: upstream_closed: the pod closed the connection before responding" && why != "status 502: upstream_aborted: the pod broke off its response" {
			t.Errorf("a request failed with %q", why)
		}
	}
}
