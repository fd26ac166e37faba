package compile

import (
	"bytes"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// trust is what a proxy is to know beside hosts: keys, and whom to believe.
type trust struct {
	certificates       map[string]*feedpb.Certificate // by id
	authorities        map[string]*feedpb.Authority   // by id
	defaultCertificate string
	tickets            *feedpb.TicketKeys // nil: not known yet

	made uint64 // the version that this, but for the tickets, was made for; 0: holds nothing
}

// trustOf translates certificates and authorities. What equals those of previous (which
// may be nil) is taken from there, so that comparing the two is cheap.
func trustOf(m *model.Model, tickets *feedpb.TicketKeys, previous *Routing) trust {
	t := trust{
		certificates:       make(map[string]*feedpb.Certificate, len(m.Certificates)),
		authorities:        make(map[string]*feedpb.Authority, len(m.Authorities)),
		defaultCertificate: m.DefaultCertificate,
		tickets:            tickets,
		made:               versions.Add(1),
	}
	if previous == nil {
		previous = &Routing{}
	}
	for _, c := range m.Certificates {
		before := previous.certificates[c.ID]
		if before == nil || !bytes.Equal(before.Chain, c.Chain) || !bytes.Equal(before.Key, c.Key) || !bytes.Equal(before.Ocsp, c.OCSP) {
			before = &feedpb.Certificate{Id: c.ID, Chain: c.Chain, Key: c.Key, Ocsp: c.OCSP}
		}
		t.certificates[c.ID] = before
	}
	for _, a := range m.Authorities {
		before := previous.authorities[a.ID]
		if before == nil || !bytes.Equal(before.Certificates, a.Certificates) || !bytes.Equal(before.Revoked, a.Revoked) {
			before = &feedpb.Authority{Id: a.ID, Certificates: a.Certificates, Revoked: a.Revoked}
		}
		t.authorities[a.ID] = before
	}
	if proto.Equal(previous.tickets, tickets) {
		t.tickets = previous.tickets
	}
	return t
}

// delta adds to a message what differs from t in next. It reports whether anything does.
func (t *trust) delta(next *trust, c *feedpb.Config) (differs bool) {
	c.DefaultCertificate = next.defaultCertificate
	if t.tickets != next.tickets {
		c.TicketKeys = next.tickets
	}
	if t.made == next.made {
		return c.TicketKeys != nil
	}
	for _, id := range slices.Sorted(maps.Keys(next.certificates)) {
		if t.certificates[id] != next.certificates[id] {
			c.Certificates = append(c.Certificates, next.certificates[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.certificates)) {
		if next.certificates[id] == nil {
			c.RemovedCertificates = append(c.RemovedCertificates, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(next.authorities)) {
		if t.authorities[id] != next.authorities[id] {
			c.Authorities = append(c.Authorities, next.authorities[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.authorities)) {
		if next.authorities[id] == nil {
			c.RemovedAuthorities = append(c.RemovedAuthorities, id)
		}
	}
	return len(c.Certificates)+len(c.RemovedCertificates)+len(c.Authorities)+len(c.RemovedAuthorities) > 0 ||
		t.defaultCertificate != next.defaultCertificate || c.TicketKeys != nil
}

// tls returns nil where connections get the default certificate and nothing else is asked.
// A host whose clients must show a certificate is never left open because its Ingress was
// refused: no client then has one that is valid.
func (r *Routing) tls(t *model.TLS, ids IDs, exclude Exclude) *feedpb.TLS {
	if t == nil {
		return nil
	}
	kind, source := Source(t.Source)
	if exclude.Of(t.Source) != Included {
		if t.Client == nil {
			return nil
		}
		return &feedpb.TLS{Client: &feedpb.ClientAuth{}, SourceKind: kind, Source: source}
	}
	out := &feedpb.TLS{
		Certificates:       t.Certificates,
		PassthroughService: r.service(t.Passthrough, ids),
		SourceKind:         kind,
		Source:             source,
		Suites:             t.Suites,
	}
	if c := t.Client; c != nil {
		out.Client = &feedpb.ClientAuth{
			Mode: clientModes[c.Mode], Authority: c.Authority, Depth: uint32(c.Depth), ErrorPage: c.ErrorPage, PassChain: c.PassChain,
			Subject: c.Subject,
		}
	}
	return out
}

var clientModes = map[model.ClientMode]feedpb.ClientAuth_Mode{
	model.ClientRequired:     feedpb.ClientAuth_REQUIRED,
	model.ClientOptional:     feedpb.ClientAuth_OPTIONAL,
	model.ClientOptionalNoCA: feedpb.ClientAuth_OPTIONAL_NO_CA,
}

// upstream returns nil for HTTP/1.1 in clear text.
func upstream(u model.Upstream) *feedpb.Upstream {
	if u == (model.Upstream{}) {
		return nil
	}
	out := &feedpb.Upstream{Grpc: u.GRPC, ProxyHeader: uint32(u.ProxyHeader)}
	if u.Protocol == model.HTTP2 {
		out.Protocol = feedpb.Upstream_HTTP2
	}
	if t := u.TLS; t != nil {
		out.Tls = &feedpb.UpstreamTLS{Verify: t.Verify, Authority: t.Authority, ServerName: t.ServerName, Certificate: t.Certificate,
			MinVersion: t.MinVersion, MaxVersion: t.MaxVersion, Suites: t.Suites}
	}
	return out
}

// The comparisons below are written out because they run over every route of every host
// at every change, where reflection would take most of the time.

func equalTLS(a, b *feedpb.TLS) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.PassthroughService == b.PassthroughService && a.Source == b.Source && a.SourceKind == b.SourceKind &&
		slices.Equal(a.Certificates, b.Certificates) && slices.Equal(a.Suites, b.Suites) && equalClient(a.Client, b.Client)
}

func equalClient(a, b *feedpb.ClientAuth) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Mode == b.Mode && a.Authority == b.Authority && a.Depth == b.Depth && a.ErrorPage == b.ErrorPage && a.PassChain == b.PassChain && a.Subject == b.Subject
}

func equalUpstreams(a, b *feedpb.Upstream) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Protocol != b.Protocol || a.Grpc != b.Grpc || a.ProxyHeader != b.ProxyHeader {
		return false
	}
	x, y := a.Tls, b.Tls
	if x == nil || y == nil {
		return x == y
	}
	return x.Verify == y.Verify && x.Authority == y.Authority && x.ServerName == y.ServerName && x.Certificate == y.Certificate &&
		x.MinVersion == y.MinVersion && x.MaxVersion == y.MaxVersion && slices.Equal(x.Suites, y.Suites)
}
