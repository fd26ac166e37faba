package policies

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
)

// pods gives service 1 of a site these pods instead of its own.
func (s *site) pods(handlers ...http.HandlerFunc) {
	v := s.proxy.View
	backend, slot := uint32(len(v.Backends)-16), uint32(len(v.Slots)-16)
	generation := v.Block(1).Generation() + 1 // these are others than those before
	s.proxy.OnLoop(func() {
		for i, h := range handlers {
			pod := httptest.NewServer(h)
			s.t.Cleanup(pod.Close)
			a := netip.MustParseAddrPort(strings.TrimPrefix(pod.URL, "http://"))
			v.Backends[backend+uint32(i)] = abi.Backend{
				Address: abi.AddressOf(a.Addr()), Port: abi.PortOf(a.Port()), Protocol: 6, Flags: abi.BackendInUse, Generation: uint32(generation), Weight: 1,
			}
			v.Slots[slot+uint32(i)] = abi.Slot{Backend: backend + uint32(i)}
		}
		v.Services[1].Block = uint64(abi.MakeBlock(slot, uint16(len(handlers)), generation))
	})
}

// answers makes a pod that says its name.
func answers(name string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Pod", name)
		w.WriteHeader(status)
	}
}

// TestTraffic: which pod gets a request, and which one is asked when that fails, as the
// annotations say.
func TestTraffic(t *testing.T) {
	s := serve(t,
		ingress("affinity", "affinity.test", "/", "web", "affinity: cookie", "affinity-mode: persistent", "session-cookie-name: stay", "session-cookie-max-age: 60"),
		ingress("hash", "hash.test", "/", "web", "upstream-hash-by: $arg_user"),
		ingress("retry", "retry.test", "/", "web", "proxy-next-upstream: http_503", "proxy-next-upstream-tries: 2"),
		ingress("off", "off.test", "/", "web", "proxy-next-upstream: off"),
		service("web"))
	s.pods(answers("a", 200), answers("b", 200), answers("c", 200))
	for range 20 {
		first := s.get("affinity.test", "/")
		name, rest, _ := strings.Cut(strings.TrimPrefix(first, "200 Pod="), " ")
		value, _, _ := strings.Cut(strings.TrimPrefix(rest, "Set-Cookie=stay="), ";")
		if !strings.Contains(rest, "; Path=/; Max-Age=60; HttpOnly") || len(value) != 22 {
			t.Fatalf("the first answer is %s", first)
		}
		for range 3 {
			if got := s.get("affinity.test", "/", "Cookie: stay="+value); got != "200 Pod="+name+" | " {
				t.Errorf("after %s: %s", first, got)
			}
		}
	}
	for user := range 10 {
		first := s.get("hash.test", fmt.Sprintf("/?user=%d", user))
		for range 3 {
			s.want("hash.test", fmt.Sprintf("/?user=%d", user), first)
		}
	}

	s.pods(answers("ill", 503), answers("well", 200))
	for range 20 {
		s.want("retry.test", "/", "200 Pod=well")
	}
	seen := map[string]bool{}
	for range 40 {
		seen[s.get("off.test", "/")] = true
	}
	if !seen["503 Pod=ill | "] || !seen["200 Pod=well | "] {
		t.Errorf("without retries the answers are %v", seen)
	}
}
