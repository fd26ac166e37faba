package exchange

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/rules/clientauth"
)

// TLS is what a client connection's handshake has settled.
type TLS struct {
	ServerName string // SNI in lower case, "" if the client named none
	Version    uint16 // tls.VersionTLS12 or tls.VersionTLS13
	Suite      uint16
	Resumed    bool
	// Client is what the host's policy thinks of the client, nil if there is none.
	Client *clientauth.Verdict

	policy  *clientauth.Policy
	session *config.Session
}

// NewTLS judges a connection whose handshake was done with a configuration of tables.
func NewTLS(tables *config.TLS, state *tls.ConnectionState) *TLS {
	t := &TLS{
		ServerName: strings.ToLower(state.ServerName),
		Version:    state.Version, Suite: state.CipherSuite, Resumed: state.DidResume,
	}
	t.session = tables.Session(t.ServerName)
	if t.policy = t.session.Host.Client; t.policy != nil {
		t.Client = t.policy.Judge(state.PeerCertificates, time.Now())
	}
	return t
}

// admit finds what answers the request, if its connection may carry it at all. That is
// asked before anything is said about the host's routes.
func (x *Exchange) admit() (config.Target, Reason) {
	encrypted := x.Connection.TLS
	if encrypted != nil {
		if reason := x.trusts(encrypted); reason != Forwarded {
			return config.Target{}, reason
		}
	}
	target, reason := x.route()
	switch {
	case x.redirects(&target):
		return config.Target{}, RedirectHTTPS
	case encrypted == nil && !target.ClearText && !x.admitsClearText():
		return config.Target{}, ClientCertificate
	}
	return target, reason
}

// trusts returns Forwarded if the client's connection may carry the request.
func (x *Exchange) trusts(t *TLS) Reason {
	switch {
	case !t.session.Covers(x.conf.TLS, x.Request.Host):
		return Misdirected
	case t.policy == nil || t.policy.Admits(t.Client):
		return Forwarded
	case t.policy.ErrorPage == "":
		return ClientCertificate
	}
	x.reply.location = append(x.reply.location[:0], t.policy.ErrorPage...)
	return ErrorPage
}

// admitsClearText reports whether the host may be asked without TLS. Where clients must
// show a certificate, leaving TLS away is no way around it, nor is a proxy before us that
// has taken it away.
func (x *Exchange) admitsClearText() bool {
	if !x.conf.TLS.Policies {
		return true
	}
	p := x.conf.TLS.Lookup(string(x.Request.Host)).Client
	return p == nil || p.Admits(&noCertificate)
}

var noCertificate = clientauth.Verdict{Text: clientauth.None}

// redirects reports whether the request is in clear text and its route wants it in https.
func (x *Exchange) redirects(t *config.Target) bool {
	if !t.RedirectHTTPS || x.origin.secure {
		return false
	}
	// The host is the one that the route was found by, never what X-Forwarded-Host says.
	b := append(x.reply.location[:0], "https://"...)
	if len(x.Request.Host) > 0 {
		b = append(b, x.Request.Host...)
	} else {
		b = appendHost(b, x.Connection.Local.Addr())
	}
	if port := x.conf.Settings.RedirectPort; port != 443 {
		b = append(b, ':')
		b = strconv.AppendUint(b, uint64(port), 10)
	}
	if x.Request.Path[0] == '/' { // else it is "*"
		b = append(b, x.Request.Path...)
	}
	if x.Request.Query != nil {
		b = append(b, '?')
		b = append(b, x.Request.Query...)
	}
	x.reply.location = b
	return true
}

func appendHost(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		return a.AppendTo(b)
	}
	return append(a.AppendTo(append(b, '[')), ']')
}

// addTo adds what pods are told of the client's certificate.
func (t *TLS) addTo(o *outgoing) {
	if t == nil || t.Client == nil {
		return
	}
	for i := range t.Client.Fields {
		o.add(t.Client.Fields[i].Name, t.Client.Fields[i].Value)
	}
}

// ClientCertificate returns the client's certificate as escaped PEM, nil if it has shown none
// or its host asks for none.
func (x *Exchange) ClientCertificate() []byte {
	t := x.Connection.TLS
	if t == nil || t.Client == nil {
		return nil
	}
	return t.Client.EscapedCertificate()
}
