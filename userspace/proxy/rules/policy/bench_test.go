package policy

import (
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
)

// BenchmarkRequest is a rewrite, three header rules and a rate limit: what the proxy does
// beyond a plain request.
func BenchmarkRequest(b *testing.B) {
	p := compile(b, &feedpb.Policy{
		Rewrite:         "/$2",
		Limits:          &feedpb.Limits{Rates: []*feedpb.Rate{{Requests: 1 << 30, PeriodMs: 1000, Burst: 1 << 20}}, Status: 503, Scope: "ns/a"},
		ResponseHeaders: []*feedpb.HeaderRule{{Name: "X-Frame-Options", Value: "DENY"}, {Name: "X-Host", Value: "$host"}, {Name: "Server"}},
	}, "/api(/|$)(.*)", true)
	q := request(b, "GET /api/users/1234?full=1", "Accept: */*", "User-Agent: bench/1.0", "Cookie: session=0123456789abcdef")
	r := response(b, "Server: pod", "Content-Type: application/json")
	by := limit.New(limit.Sets)
	var buf []byte
	n := len(r.Fields)
	b.ReportAllocs()
	for b.Loop() {
		var a Admitted
		q.Now += 10
		if p.Answer(q) != nil {
			b.Fatal("answered")
		}
		if v, _ := p.Admit(q, by, &a); v != Pass {
			b.Fatal("refused")
		}
		buf, _, _, _ = p.Rewrite(buf[:0], q)
		r.Fields = r.Fields[:n]
		buf = p.EditResponse(buf, q, r)
	}
}
