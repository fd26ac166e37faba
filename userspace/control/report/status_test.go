package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/owner"
)

func TestNextStatus(t *testing.T) {
	type entries = []networkingv1.IngressLoadBalancerIngress
	ours := entries{{IP: "192.0.2.10"}, {IP: "2001:db8::10"}}
	decorated := entries{{IP: "192.0.2.10", Hostname: "lb.example.com", Ports: []networkingv1.IngressPortStatus{{Port: 443, Protocol: "TCP"}}}, {IP: "2001:db8::10"}}
	others := entries{{IP: "198.51.100.1"}}
	for _, c := range []struct {
		what        string
		have        entries
		author      owner.Author
		served      bool
		othersClass bool
		want        entries // nil: as it is
		cleared     bool
	}{
		{what: "served, empty", served: true, want: ours},
		{what: "served, right", have: ours, author: owner.Us, served: true},
		{what: "served, an older address of ours", have: others, author: owner.Us, served: true, want: ours},
		{what: "served, the address of the controller before", have: others, served: true, want: ours},
		{what: "served, somebody has added a hostname and ports", have: decorated, served: true},
		{what: "served, somebody has added an entry", have: append(entries{{Hostname: "lb.example.com"}}, ours...), served: true},
		{what: "served, one of ours is missing", have: decorated[:1], served: true, want: decorated},
		{what: "served, too many of ours", have: append(entries{{IP: "198.51.100.1"}}, ours...), author: owner.Us, served: true, want: ours},
		{what: "not served, ours", have: ours, author: owner.Us, cleared: true},
		{what: "not served, ours of an older address", have: others, author: owner.Us, cleared: true},
		{what: "not served, another controller has our address", have: ours},
		{what: "not served, an older agent's", have: ours, author: owner.Legacy, cleared: true},
		{what: "not served, an older agent's of another class", have: ours, author: owner.Legacy, othersClass: true},
		{what: "not served, an older agent's of other addresses", have: others, author: owner.Legacy},
		{what: "not served, empty", author: owner.Us},
	} {
		want, changed := nextStatus(c.have, ours, c.author, c.served, c.othersClass)
		expect := c.want
		if expect == nil && !c.cleared {
			expect = c.have
		}
		if diff := cmp.Diff(expect, want); diff != "" || changed != (c.want != nil || c.cleared) {
			t.Errorf("%s: changed %t (-want +got):\n%s", c.what, changed, diff)
		}
		if again, changed := nextStatus(want, ours, owner.Us, c.served, c.othersClass); changed && c.author == owner.Us {
			t.Errorf("%s: written again: %v", c.what, again)
		}
	}
}

func TestNextServiceStatus(t *testing.T) {
	type entries = []corev1.LoadBalancerIngress
	proxy, vip := corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP
	ours := entries{{IP: "192.0.2.10", IPMode: &proxy}}
	decorated := entries{{IP: "192.0.2.10", IPMode: &proxy, Hostname: "db.example.com"}}
	for _, c := range []struct {
		what       string
		have, ours entries
		author     owner.Author
		want       entries // nil: as it is
		cleared    bool
	}{
		{what: "empty", ours: ours, want: ours},
		{what: "right", have: ours, ours: ours, author: owner.Us},
		{what: "somebody has added a hostname", have: decorated, ours: ours},
		{what: "another mode", have: entries{{IP: "192.0.2.10", IPMode: &vip, Hostname: "db.example.com"}}, ours: ours, want: decorated},
		{what: "somebody has added an entry", have: append(entries{{Hostname: "x"}}, ours...), ours: ours},
		{what: "an older address of ours", have: append(entries{{IP: "198.51.100.1"}}, ours...), ours: ours, author: owner.Us, want: ours},
		{what: "not published any more", have: ours, author: owner.Us, cleared: true},
	} {
		want, changed := nextServiceStatus(c.have, c.ours, c.author)
		if changed != (c.want != nil || c.cleared) {
			t.Errorf("%s: changed %t", c.what, changed)
		}
		if diff := cmp.Diff(c.want, want); changed && diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}
