package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// Exclusion says how much of an object's configuration reaches proxies.
type Exclusion uint8

const (
	// Included: all of it.
	Included Exclusion = iota
	// Closed: its routes answer 503. Without them their requests would go to the service of
	// a less specific path, whose rules may be weaker. Its canaries are left out.
	Closed
	// Dropped: nothing, because a proxy cannot even take the closed routes.
	Dropped
)

// Exclude says which objects a proxy could not take. It may be nil: none.
type Exclude func(model.ObjectRef) Exclusion

// Of says how much of an object's configuration reaches proxies.
func (e Exclude) Of(ref model.ObjectRef) Exclusion {
	if e == nil {
		return Included
	}
	return e(ref)
}

var closedPolicy = &model.Policy{Access: &model.Access{Closed: "the proxy could not take the configuration of this object; see its events"}}

// Route returns a route as proxies get it, nil if they do not.
func (e Exclude) Route(r *model.Route) *model.Route {
	switch e.Of(r.Source) {
	case Dropped:
		return nil
	case Closed:
		return closedRoute(r)
	}
	return r
}

// closedRoute returns what takes the place of a route whose object is Closed.
func closedRoute(r *model.Route) *model.Route {
	return &model.Route{Path: r.Path, Match: r.Match, When: r.When, Rank: r.Rank, Source: r.Source, RedirectHTTPS: r.RedirectHTTPS, Policy: closedPolicy}
}

// Footprint is a hash of everything that an object brings into the configuration of
// proxies: routes, rules, canaries, TLS, and the certificates and authorities that these
// name. While it stays the same, a proxy that refused the object would refuse it again.
// published is false if the model has nothing of the object.
func Footprint(m *model.Model, ids IDs, ref model.ObjectRef) (sum [sha256.Size]byte, published bool) {
	f := footprint{model: m, hash: sha256.New(), routing: &Routing{}}
	for i := range m.Hosts {
		host := &m.Hosts[i]
		if host.TLS != nil && host.TLS.Source == ref {
			published = true
			f.add(host.Name, f.routing.tls(host.TLS, ids, nil))
			f.certificates(host.TLS.Certificates...)
			if host.TLS.Client != nil {
				f.authority(host.TLS.Client.Authority)
			}
		}
		for j := range host.Routes {
			route := &host.Routes[j]
			if route.Source == ref {
				published = true
				f.route(host.Name, route, ids)
			}
			for _, c := range route.Splits {
				if c.Source == ref {
					published = true
					f.split(host.Name, c, ids)
				}
			}
		}
	}
	f.hash.Sum(sum[:0])
	return sum, published
}

type footprint struct {
	model   *model.Model
	routing *Routing
	hash    hash.Hash
}

// split adds a split with its rules.
func (f *footprint) split(host string, c model.Split, ids IDs) {
	f.add(host, f.routing.split(c, ids))
	if c.Policy != nil {
		f.add(host, f.routing.policy(c.Policy, c.Source, ids))
	}
	if c.Upstream != nil && c.Upstream.TLS != nil {
		f.certificates(c.Upstream.TLS.Certificate)
		f.authority(c.Upstream.TLS.Authority)
	}
}

// route adds a route without its splits, which may be other objects'.
func (f *footprint) route(host string, r *model.Route, ids IDs) {
	alone := *r
	alone.Splits = nil
	f.add(host, f.routing.host(&model.Host{Name: host, Routes: []model.Route{alone}}, ids, nil))
	if t := r.Upstream.TLS; t != nil {
		f.certificates(t.Certificate)
		f.authority(t.Authority)
	}
}

func (f *footprint) certificates(ids ...string) {
	for _, id := range ids {
		for i := range f.model.Certificates {
			if c := &f.model.Certificates[i]; c.ID == id {
				f.bytes(c.Chain, c.Key, c.OCSP)
			}
		}
	}
}

func (f *footprint) authority(id string) {
	for i := range f.model.Authorities {
		if a := &f.model.Authorities[i]; a.ID == id {
			f.bytes(a.Certificates, a.Revoked)
		}
	}
}

func (f *footprint) add(where string, m proto.Message) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		raw = []byte(err.Error()) // a text that is not UTF-8: the same each time
	}
	f.bytes([]byte(where), raw)
}

// bytes adds each part behind its length, so that no two lists of parts are alike.
func (f *footprint) bytes(parts ...[]byte) {
	for _, part := range parts {
		f.hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(part))))
		f.hash.Write(part)
	}
}

// keepUsed drops the certificates and authorities that no host names (any more): one of an
// object that was refused may be what it was refused for.
func (r *Routing) keepUsed() {
	used := map[string]bool{r.defaultCertificate: true}
	for _, h := range r.hosts {
		for _, id := range h.Tls.GetCertificates() {
			used[id] = true
		}
		used[h.Tls.GetClient().GetAuthority()] = true
		for _, route := range h.Routes {
			t := route.Upstream.GetTls()
			used[t.GetCertificate()], used[t.GetAuthority()] = true, true
			for _, split := range route.Splits {
				t := split.Upstream.GetTls()
				used[t.GetCertificate()], used[t.GetAuthority()] = true, true
			}
		}
	}
	maps.DeleteFunc(r.certificates, func(id string, _ *feedpb.Certificate) bool { return !used[id] })
	maps.DeleteFunc(r.authorities, func(id string, _ *feedpb.Authority) bool { return !used[id] })
}
