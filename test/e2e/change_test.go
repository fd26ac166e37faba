//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/load"
)

// steady starts a steady load over both families on the paths, which must be answered by a
// pod of the service web.
func (s *site) steady(connections int, rate float64, paths ...string) *load.Run {
	if len(paths) == 0 {
		paths = []string{"/", "/?size=20000", "/?chunks=3"}
	}
	var requests []load.Request
	for _, path := range paths {
		requests = append(requests, load.Request{Host: webHost, Path: path})
	}
	requests = append(requests, load.Request{Method: http.MethodPost, Host: webHost, Path: paths[0], Body: "some body"})
	vips := s.vips()
	next := make(chan netip.Addr)
	ctx, stop := context.WithCancel(context.Background())
	s.t.Cleanup(stop)
	go func() { // ends with the test
		for i := 0; ; i++ {
			select {
			case next <- vips[i%len(vips)]:
			case <-ctx.Done():
				return
			}
		}
	}()
	return load.Start(load.Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(<-next, 80).String())
		},
		Connections: connections, Rate: rate, ReopenEvery: 40, Requests: requests, Limit: 2 * time.Minute,
	})
}

// waitMore waits until the stream has had n more outcomes.
func (s *site) waitMore(run *load.Run, n int) {
	s.t.Helper()
	goal := run.Requests() + n
	must(s.t, lab.Until(20*time.Second, fmt.Sprintf("%d more requests", n), func() error {
		if run.Requests() < goal {
			return lab.ErrNotYet
		}
		return nil
	}))
}

// wantNoFailure ends the stream and fails the test if one request failed.
func (s *site) wantNoFailure(run *load.Run, during string) load.Report {
	s.t.Helper()
	result := run.Stop()
	report(s.t, "%s: %s", during, result)
	if result.Failed > 0 || result.Requests == 0 {
		s.t.Errorf("%s: %d of %d requests failed", during, result.Failed, result.Requests)
	}
	return result
}

// A pod that is added gets requests, one that is removed gets none, without any failing.
func TestEndpointChange(t *testing.T) {
	s := webSite(t, 3)
	pods := s.pods["web"]
	url := "http://" + webHost + "/"
	seen := func() map[string]bool {
		names := make(map[string]bool)
		for range 60 {
			names[s.get(url).Pod.Pod] = true
		}
		return names
	}
	for _, step := range [][]*lab.Pod{pods[:1], pods[1:], pods, pods[2:], pods[:2]} {
		s.publish("web", step...)
		err := lab.Until(5*time.Second, "answers of exactly the pods that are published", func() error {
			if got := seen(); len(got) != len(step) {
				return fmt.Errorf("answered: %v", got)
			}
			return nil
		})
		must(t, err)
		got := seen()
		for _, pod := range step {
			if !got[pod.Name] {
				t.Errorf("published %d pods: %s does not answer; answered: %v", len(step), pod.Name, got)
			}
		}
	}
	// No pod at all, and back.
	s.publish("web")
	s.eventually(url, "503 for a service without pods", func(r *reply) bool { return r.Status == 503 && r.reason() == "no_endpoint" })
	s.publish("web", pods...)
	s.eventually(url, "answer after the pods are back", func(r *reply) bool { return r.Status == 200 })
}

// A hundred endpoint changes and twenty edits of an Ingress, one after the other, under
// steady load: no request fails.
func TestChangesUnderLoad(t *testing.T) {
	s := webSite(t, 4)
	pods := s.pods["web"]
	run := s.steady(16, 1500)
	s.waitMore(run, 200)
	for i := range 100 {
		kept := append([]*lab.Pod{pods[(i+1)%4]}, pods[:i%4]...) // one to four, always others
		distinct := kept[:0:0]
		for _, pod := range kept {
			if len(distinct) == 0 || pod != distinct[0] {
				distinct = append(distinct, pod)
			}
		}
		s.publish("web", distinct...)
		s.waitMore(run, 15)
	}
	for i := range 20 {
		must(t, s.Manifests.Write("ingress.yaml", lab.Ingress("site",
			lab.Path{Host: webHost, Service: "web"},
			lab.Path{Host: webHost, Path: fmt.Sprintf("/edit-%d", i), Service: "web"},
			lab.Path{Host: fmt.Sprintf("edit-%d.example.com", i), Service: "web"})))
		s.waitMore(run, 60)
	}
	s.wantNoFailure(run, "100 endpoint changes and 20 Ingress edits")
	s.eventually("http://edit-19.example.com/", "the last edit to be in force", func(r *reply) bool { return r.Status == 200 })
	s.eventually("http://edit-18.example.com/", "the edit before to be undone", func(r *reply) bool { return r.Status == 404 })
}

// A file that becomes invalid keeps what it said last, tells so, and disturbs no other file;
// corrected, it counts again. One bad object takes down neither its neighbours nor itself
// beyond its own part.
func TestBrokenManifests(t *testing.T) {
	s := newSite(t, 1, []app{{"web", 1}, {"other", 1}}, lab.Path{Host: webHost, Service: "web"})
	must(t, s.Manifests.Write("other-ingress.yaml", lab.Ingress("other", lab.Path{Host: "other.example.com", Service: "other"})))
	s.eventually("http://other.example.com/", "the second Ingress", func(r *reply) bool { return r.Pod.Service == "other" })

	for _, text := range []string{
		"kind: Ingress\n\tthis: is no YAML",
		"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: site, namespace: default}\nspec: [1, 2]\n",
		"\x00\x01\x02",
	} {
		must(t, s.Manifests.WriteText("ingress.yaml", text))
		// A change of another file that comes later is in force: so the broken one has been read.
		marker := fmt.Sprintf("marker-%d.example.com", len(text))
		must(t, s.Manifests.Write("other-ingress.yaml", lab.Ingress("other",
			lab.Path{Host: "other.example.com", Service: "other"}, lab.Path{Host: marker, Service: "other"})))
		s.eventually("http://"+marker+"/", "a change beside the broken file", func(r *reply) bool { return r.Status == 200 })
		if r := s.get("http://" + webHost + "/"); r.Pod.Service != "web" {
			t.Errorf("with ingress.yaml = %q: status %d %s, want the last good state", text, r.Status, r.Body)
		}
	}
	out, err := s.Ctl("problems")
	if err != nil || len(out) == 0 {
		t.Errorf("kerngatectl problems: %v, %q; want the broken file", err, out)
	}

	must(t, s.Manifests.Write("ingress.yaml",
		lab.Ingress("site",
			lab.Path{Host: webHost, Path: "/new", Service: "web"},
			lab.Path{Host: webHost, Path: "not-absolute", Service: "web"},
			lab.Path{Host: "bad_host!", Service: "web"})))
	s.eventually("http://"+webHost+"/new", "the valid part of an Ingress with invalid parts", func(r *reply) bool { return r.Status == 200 })
	s.eventually("http://"+webHost+"/", "the old rule to be gone", func(r *reply) bool { return r.Status == 404 })

	must(t, s.Manifests.Remove("ingress.yaml"))
	s.eventually("http://"+webHost+"/new", "a removed file's rule to be gone", func(r *reply) bool { return r.Status == 404 })
	if r := s.get("http://other.example.com/"); r.Pod.Service != "other" {
		t.Errorf("the other file's Ingress: %d %s", r.Status, r.Body)
	}
}
