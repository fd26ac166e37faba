package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/io/tlsconn"
)

// TLSError says why there is no TLS connection to a pod.
type TLSError struct {
	Token     string
	Untrusted bool // the pod's certificate is to blame
	Err       error
}

func (e *TLSError) Error() string { return "TLS to the pod: " + e.Token + ": " + e.Err.Error() }
func (e *TLSError) Unwrap() error { return e.Err }

var (
	errMissing = errors.New("the Ingress names a Secret that is not there")
	errNoName  = errors.New("neither the Ingress nor the request names the pod")
)

// encrypt does the TLS handshake with the pod.
func (p *Pool) encrypt(co *reactor.Coroutine, c *reactor.Conn, t *Target, deadline int64) error {
	config, err := p.tlsConfig(t)
	if err != nil {
		return err
	}
	layer, err := tlsconn.Client(co, c, config, deadline)
	switch {
	case err == tlsconn.ErrTimeout:
		return ErrTimeout
	case err != nil:
		return tlsFault(err)
	case t.Transport.HTTP2 && layer.State().NegotiatedProtocol != "h2":
		return &ProtocolError{"no_h2_by_alpn"}
	}
	return nil
}

// tlsConfig returns what connections to the target are made with. Those of one group share
// it, and with it the last session, to be resumed.
func (p *Pool) tlsConfig(t *Target) (*tls.Config, error) {
	if t.Transport.Missing != "" {
		return nil, &TLSError{"secret_missing", false, errMissing}
	}
	var g *group
	if !t.private() {
		if g = p.group(t); g.tls != nil {
			return g.tls, nil
		}
	}
	name := t.Transport.ServerName
	if name == "" {
		name = strings.Trim(string(t.Name), "[]")
	}
	if name == "" && t.Transport.Verify {
		return nil, &TLSError{"no_server_name", false, errNoName}
	}
	config := t.Transport.Config.Clone()
	config.ServerName = name
	if g != nil {
		config.ClientSessionCache = &g.session
		g.tls = config
	}
	return config, nil
}

// sessionCache keeps the last session of a group: all its connections are to one pod, which
// alone understands its tickets.
type sessionCache struct{ state *tls.ClientSessionState }

// Get implements tls.ClientSessionCache.
func (c *sessionCache) Get(string) (*tls.ClientSessionState, bool) { return c.state, c.state != nil }

// Put implements tls.ClientSessionCache.
func (c *sessionCache) Put(_ string, s *tls.ClientSessionState) { c.state = s }

// tlsFault says what the failure of a handshake, or of the first read behind it, means.
func tlsFault(err error) error {
	var verification *tls.CertificateVerificationError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	var remote *net.OpError
	switch {
	case errors.As(err, &hostname):
		return &TLSError{"certificate_for_another_name", true, err}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &TLSError{"certificate_expired", true, err}
	case errors.As(err, &authority):
		return &TLSError{"certificate_of_unknown_authority", true, err}
	case errors.As(err, &verification):
		return &TLSError{"certificate_invalid", true, err}
	case errors.As(err, &remote) && remote.Op == "remote error":
		return &TLSError{"alert_by_the_pod", false, err}
	case err == tlsconn.ErrGone:
		return &TLSError{"closed_by_the_pod", false, err}
	}
	return &TLSError{"handshake_failed", false, err}
}
