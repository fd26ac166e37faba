//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

// Clients stay at their pod by a cookie and values by their hash, also when another pod
// goes; who was at that one gets another.
func TestAffinityAndHash(t *testing.T) {
	s := prepareSite(t, 2, []app{{"web", 4}}, lab.Path{Host: webHost, Service: "web"})
	must(t, s.Manifests.Write("affinity.yaml", annotated("affinity", "stay.example.com", "web",
		nginx+"affinity", "cookie", nginx+"affinity-mode", "persistent", nginx+"session-cookie-name", "stay")))
	must(t, s.Manifests.Write("hash.yaml", annotated("hash", "hash.example.com", "web", nginx+"upstream-hash-by", "$arg_user")))
	s.start()
	ask := func(url string, header ...string) *reply {
		r := s.get(url, header...)
		if r.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", url, r.Status, r.Body)
		}
		return r
	}
	s.eventually("http://stay.example.com/", "sets a cookie", func(r *reply) bool { return len(r.Whole.Cookies()) == 1 })
	homes := map[string]string{} // cookie -> pod
	for range 24 {
		r := ask("http://stay.example.com/")
		homes[r.Whole.Cookies()[0].Value] = r.Pod.Pod
	}
	users := map[string]string{} // URL -> pod
	for i := range 40 {
		url := fmt.Sprintf("http://hash.example.com/?user=%d", i)
		users[url] = ask(url).Pod.Pod
	}
	gone := s.pods["web"][3].Name
	s.publish("web", s.pods["web"][:3]...)
	for url, pod := range users {
		if pod == gone {
			s.eventually(url, "answers from another pod", func(r *reply) bool { return r.Pod.Pod != gone })
			break
		}
	}
	for cookie, pod := range homes {
		r := ask("http://stay.example.com/", "Cookie: stay="+cookie)
		if pod != gone && (r.Pod.Pod != pod || len(r.Whole.Cookies()) > 0) || pod == gone && len(r.Whole.Cookies()) != 1 {
			t.Errorf("a client of %s is answered by %s, cookies %v, when %s is gone", pod, r.Pod.Pod, r.Whole.Cookies(), gone)
		}
	}
	moved := 0
	for url, pod := range users {
		if got := ask(url).Pod.Pod; got == gone || got != pod && pod != gone {
			moved++
		}
	}
	if moved > len(users)/8 {
		t.Errorf("%d of %d values that were at other pods moved when %s went", moved, len(users), gone)
	}
}
