package config

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"maps"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/rules/clientauth"
)

// TLS is how the connections to https ports are taken. Like the Snapshot that it belongs to
// it is never changed; connections keep the one that they began with.
type TLS struct {
	// Config is for the handshakes of TCP connections, QUIC for those of HTTP/3.
	Config, QUIC *tls.Config
	// Passthrough says whether there are hosts whose connections are passed on encrypted.
	Passthrough bool
	// Policies says whether there are hosts whose clients are asked for a certificate.
	Policies bool

	hosts    map[string]*VirtualHost // by name, "*.x" for one label more, "**.x" for any number
	deep     bool                    // there are names "**.x"
	fallback *VirtualHost            // for every other name, and for none

	// What the next one is made from.
	rules        map[string]*feedpb.TLS // of hosts
	certificates map[string]*certificate
	authorities  map[string]*Authority
	policies     map[[32]byte]*clientauth.Policy
	selfSigned   *tls.Certificate
	tickets      [][32]byte // keys
}

// VirtualHost is how connections that ask for a name are taken.
type VirtualHost struct {
	Name        string             // "" for names that have no host with TLS
	Client      *clientauth.Policy // nil: clients are not asked for a certificate
	Passthrough *Service           // gets the connection still encrypted; nil: it is terminated here

	certificates []*tls.Certificate // in order of preference
	suites       []uint16           // of TLS 1.2, nil: those of Settings
	config, quic *tls.Config        // for hosts with a policy or suites of their own
}

// Lookup finds the host that a name belongs to, as package route does: exactly, by the wildcard
// with the longest domain, or the default one. The name is in lower case.
func (t *TLS) Lookup(name string) *VirtualHost {
	if h := t.hosts[name]; h != nil {
		return h
	}
	dot := strings.IndexByte(name, '.')
	if dot <= 0 {
		return t.fallback
	}
	if h := t.hosts["*"+name[dot:]]; h != nil {
		return h
	}
	for domain := name[dot:]; t.deep; {
		if h := t.hosts["**"+domain]; h != nil {
			return h
		}
		next := strings.IndexByte(domain[1:], '.')
		if next < 0 {
			break
		}
		domain = domain[1+next:]
	}
	return t.fallback
}

// Covers reports whether a certificate of the host is for the name, in lower case.
func (h *VirtualHost) Covers(name string) bool {
	return h.certificates[0].Leaf.VerifyHostname(name) == nil
}

// certificate picks a host's certificate for a client: the first that the client can use.
func (t *TLS) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	all := t.Lookup(strings.ToLower(hello.ServerName)).certificates
	if len(all) > 1 {
		// The default certificate is shown whatever the client asked for; so is one that
		// does not have the name of the host that it was given to.
		nameless := *hello
		nameless.ServerName = ""
		for _, c := range all {
			if nameless.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
	}
	return all[0], nil
}

// apply returns what results from a Config, whose settings and services next has already.
func (t *TLS) apply(c *feedpb.Config, next *Snapshot) (*TLS, error) {
	n := &TLS{
		rules: map[string]*feedpb.TLS{}, certificates: map[string]*certificate{}, authorities: map[string]*Authority{},
		policies: map[[32]byte]*clientauth.Policy{}, selfSigned: t.selfSigned, tickets: t.tickets,
	}
	if !c.Snapshot {
		maps.Copy(n.rules, t.rules)
		maps.Copy(n.certificates, t.certificates)
		maps.Copy(n.authorities, t.authorities)
		for _, name := range c.RemovedHosts {
			delete(n.rules, name)
		}
		for _, id := range c.RemovedCertificates {
			delete(n.certificates, id)
		}
		for _, id := range c.RemovedAuthorities {
			delete(n.authorities, id)
		}
	}
	for _, h := range c.Hosts {
		delete(n.rules, h.Name)
		if h.Tls != nil {
			n.rules[h.Name] = h.Tls
		}
	}
	if err := n.readCertificates(c, t); err != nil {
		return nil, err
	}
	if err := n.readTickets(c); err != nil {
		return nil, err
	}
	fallback, err := n.defaultCertificate(c.DefaultCertificate)
	if err != nil {
		return nil, err
	}
	if err := n.readHosts(next, t, fallback); err != nil {
		return nil, err
	}
	n.configure(&next.Settings)
	return n, nil
}

func (t *TLS) readHosts(next *Snapshot, before *TLS, fallback *tls.Certificate) error {
	t.fallback = &VirtualHost{certificates: []*tls.Certificate{fallback}}
	t.hosts, t.deep = make(map[string]*VirtualHost, len(t.rules)), false
	for name, rule := range t.rules {
		h, err := t.readHost(name, rule, before, fallback)
		if err != nil {
			return &RefusedError{objectOf(rule.SourceKind, rule.Source), err}
		}
		if rule.PassthroughService != 0 {
			if h.Passthrough = next.services[rule.PassthroughService]; h.Passthrough == nil {
				return &RefusedError{objectOf(rule.SourceKind, rule.Source), fmt.Errorf("host %q passes connections through to service %d, which is not in the configuration", name, rule.PassthroughService)}
			}
			t.Passthrough = true
		}
		if name == "" {
			t.fallback = h
		} else {
			t.hosts[name] = h
			t.deep = t.deep || strings.HasPrefix(name, "**")
		}
	}
	return nil
}

func (t *TLS) readHost(name string, rule *feedpb.TLS, before *TLS, fallback *tls.Certificate) (*VirtualHost, error) {
	h := &VirtualHost{Name: name}
	for _, id := range rule.Certificates {
		if c := t.certificates[id]; c != nil {
			h.certificates = append(h.certificates, c.parsed)
		}
	}
	if len(h.certificates) == 0 {
		h.certificates = []*tls.Certificate{fallback}
	}
	var err error
	if h.suites, err = parseSuites(rule.Suites); err != nil {
		return nil, fmt.Errorf("host %q: %w", name, err)
	}
	if rule.Client == nil {
		return h, nil
	}
	rules := clientauth.Rules{
		Mode: clientauth.Mode(rule.Client.Mode), Depth: int(rule.Client.Depth),
		ErrorPage: rule.Client.ErrorPage, PassChain: rule.Client.PassChain, Subject: rule.Client.Subject,
	}
	if a := t.authorities[rule.Client.Authority]; a != nil {
		rules.Certificates, rules.Revoked = a.certificates, a.revoked
	} else if rules.Mode == clientauth.Optional {
		rules.Mode = clientauth.Required // of an authority that is not there: nobody is let in
	}
	sum := rules.Fingerprint()
	p := t.policies[sum]
	if p == nil {
		p = before.policies[sum]
	}
	if p == nil {
		if p, err = clientauth.New(rules); err != nil {
			return nil, fmt.Errorf("Secret %s: %w", rule.Client.Authority, err)
		}
	}
	t.policies[sum] = p
	h.Client = p
	return h, nil
}

// configure makes the configurations of crypto/tls.
func (t *TLS) configure(s *Settings) {
	// The last two are what clients offer that are told to speak HTTP/1.0, or 0.9.
	protocols := []string{"h2", "http/1.1", "http/1.0", "http/0.9"}
	if s.DisableHTTP2 {
		protocols = protocols[1:]
	}
	base := tls.Config{
		MinVersion:     s.TLSMinVersion,
		CipherSuites:   s.TLSSuites,
		NextProtos:     protocols,
		GetCertificate: t.certificate,
		// Small records only cost; what a response begins with is small anyway.
		DynamicRecordSizingDisabled: true,
	}
	quic := base.Clone()
	quic.MinVersion, quic.NextProtos = tls.VersionTLS13, []string{"h3"}
	t.Config, t.QUIC = base.Clone(), quic
	t.Config.SetSessionTicketKeys(t.tickets)
	t.QUIC.SetSessionTicketKeys(t.tickets)
	t.Policies = len(t.policies) > 0
	own := ownConfigs{base: &base, quic: quic, tickets: t.tickets, made: map[ownKey][2]*tls.Config{}}
	own.set(t.fallback)
	for _, h := range t.hosts {
		own.set(h)
	}
	if len(own.made) == 0 {
		return
	}
	t.Config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return t.Lookup(strings.ToLower(hello.ServerName)).config, nil
	}
	t.QUIC.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return t.Lookup(strings.ToLower(hello.ServerName)).quic, nil
	}
}

// ownConfigs makes the configurations of hosts that have something of their own, one for
// all hosts that have the same.
type ownConfigs struct {
	base, quic *tls.Config
	tickets    [][32]byte
	made       map[ownKey][2]*tls.Config
}

type ownKey struct {
	client *clientauth.Policy
	suites string
}

func (o *ownConfigs) set(h *VirtualHost) {
	if h.Client == nil && h.suites == nil {
		return
	}
	key := ownKey{h.Client, fmt.Sprint(h.suites)}
	pair, made := o.made[key]
	if !made {
		pair = [2]*tls.Config{o.base.Clone(), o.quic.Clone()}
		tickets := o.tickets
		if h.Client != nil {
			tickets = policyTickets(o.tickets, h.Client)
		}
		for _, c := range pair {
			if h.Client != nil {
				// Whether the certificate is good is decided after the handshake.
				c.ClientAuth = tls.RequestClientCert
				c.ClientCAs = h.Client.Authorities()
			}
			if h.suites != nil { // a session of another suite is not resumed, either
				c.CipherSuites = h.suites
			}
			c.SetSessionTicketKeys(tickets)
		}
		o.made[key] = pair
	}
	h.config, h.quic = pair[0], pair[1]
}

// policyTickets derives keys for the tickets of hosts with this policy. crypto/tls resumes
// whatever session it can decrypt: with keys of their own, a session that another host has
// begun, under which the client was never asked, cannot be brought here.
func policyTickets(keys [][32]byte, p *clientauth.Policy) [][32]byte {
	derived := make([][32]byte, len(keys))
	for i := range keys {
		mac := hmac.New(sha256.New, keys[i][:])
		mac.Write([]byte("kerngate tickets of a client policy\x00"))
		mac.Write(p.Fingerprint[:])
		mac.Sum(derived[i][:0])
	}
	return derived
}
