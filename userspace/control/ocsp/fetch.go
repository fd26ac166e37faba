package ocsp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// answer is a response that was verified.
type answer struct {
	der     []byte
	until   time.Time
	refresh time.Duration // from now
	revoked bool
}

// fetch asks the first responder that the certificate names.
func (s *Stapler) fetch(ctx context.Context, e *entry) (answer, error) {
	responder, err := url.Parse(e.leaf.OCSPServer[0])
	if err != nil || responder.Scheme != "http" && responder.Scheme != "https" || responder.Host == "" || responder.User != nil {
		return answer{}, fmt.Errorf("responder %q is no http URL", e.leaf.OCSPServer[0])
	}
	request, err := ocsp.CreateRequest(e.leaf, e.issuer, nil)
	if err != nil {
		return answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, responder.String(), bytes.NewReader(request))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	r.Header.Set("Accept", "application/ocsp-response")
	response, err := s.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("responder %s: %s", responder.Host, response.Status)
	}
	der, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	if err != nil {
		return answer{}, fmt.Errorf("responder %s: %w", responder.Host, err)
	}
	if len(der) > maxResponse {
		return answer{}, fmt.Errorf("responder %s: its response is larger than %d KiB", responder.Host, maxResponse>>10)
	}
	return judge(der, e, time.Now())
}

// judge verifies a response and says how long it can be used.
func judge(der []byte, e *entry, now time.Time) (answer, error) {
	parsed, err := ocsp.ParseResponseForCert(der, e.leaf, e.issuer)
	if err != nil {
		return answer{}, fmt.Errorf("OCSP response: %w", err)
	}
	switch {
	case parsed.NextUpdate.IsZero():
		return answer{}, errors.New("OCSP response: without nextUpdate it cannot be stapled")
	case !parsed.NextUpdate.After(now):
		return answer{}, fmt.Errorf("OCSP response: out of date since %s", parsed.NextUpdate.UTC().Format(time.RFC3339))
	case parsed.ThisUpdate.After(now.Add(5 * time.Minute)):
		return answer{}, fmt.Errorf("OCSP response: from the future (%s); is this node's clock right?", parsed.ThisUpdate.UTC().Format(time.RFC3339))
	case parsed.Status == ocsp.Unknown:
		return answer{}, errors.New("OCSP response: the responder does not know the certificate")
	}
	half := parsed.ThisUpdate.Add(parsed.NextUpdate.Sub(parsed.ThisUpdate) / 2)
	return answer{
		der:     der,
		until:   parsed.NextUpdate,
		refresh: min(max(half.Sub(now), retryFirst), refreshMost),
		revoked: parsed.Status == ocsp.Revoked,
	}, nil
}

// Guard says where no responder is looked for: the address comes from a certificate, which anybody
// who may write a Secret may have made, and what listens on this node and its link trusts whoever
// can reach it.
type Guard struct {
	Ingress []netip.Addr   // addresses of the ingress
	Allowed []netip.Prefix // may be reached all the same
	// Node lists the addresses of this node, which may change while the agent runs.
	Node func() ([]net.Addr, error)
}

// Dial connects to responders.
func (g Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		resolved, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return g.check(resolved.Addr())
	}}
	return dialer.DialContext(ctx, network, address)
}

func (g Guard) check(a netip.Addr) error {
	own := slices.Clone(g.Ingress)
	addresses, err := g.Node()
	if err != nil {
		return fmt.Errorf("addresses of this node: %w", err)
	}
	for _, n := range addresses {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			own = append(own, p.Addr().WithZone("").Unmap())
		}
	}
	return rule.Destination(a, own, g.Allowed)
}
