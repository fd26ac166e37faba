package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/look/status"
)

// tls tells which certificate a client gets that asks for the host by SNI, and whether it
// must show one itself. It reports whether the connection is passed through, so that
// neither host nor path is ever looked at.
func (w *walk) tls() (passed bool) {
	if w.in.Target.Scheme != "https" {
		return false
	}
	if w.in.Routes == nil {
		w.unknown("tls", w.in.NoAgent)
		return false
	}
	host, _ := w.host()
	if host == nil || host.TLS == nil {
		w.step(Step{Name: "tls", Result: OK, Summary: "no Ingress has a certificate for " + w.in.Target.Host + ": " + w.defaultCertificate()})
		return false
	}
	t := host.TLS
	if t.Passthrough != "" {
		w.out.Object, w.out.Service = t.Object(), t.Passthrough
		w.step(Step{Name: "tls", Result: OK, Summary: fmt.Sprintf("connections that ask for %s are passed, still encrypted, to %s, as %s says; the pod has the certificate, and neither path nor headers are seen", hostName(host.Name), t.Passthrough, t.Object())})
		return true
	}
	s := Step{Name: "tls", Result: OK, Summary: fmt.Sprintf("host %s has no certificate of its own: %s", hostName(host.Name), w.defaultCertificate())}
	for i, id := range t.Certificates {
		if i == 0 {
			s.Summary = fmt.Sprintf("certificate of Secret %s, for host %s of %s", id, hostName(host.Name), t.Object())
		}
		why := w.describe(id)
		if len(t.Certificates) > 1 {
			why += "; the first that the client supports is used"
		}
		s.Considered = append(s.Considered, Candidate{Rule: id, Chosen: i == 0, Why: why})
	}
	w.step(s)
	w.client(t.Client)
	return false
}

// client tells what a host's clients must show.
func (w *walk) client(c *status.ClientAuth) {
	if c == nil {
		return
	}
	if !slices.Contains(w.in.Routes.Authorities, c.Authority) {
		w.stop(Step{Name: "client", Summary: fmt.Sprintf("clients are asked for a certificate (%s) signed by %s, which is not there: every client is refused", c.Mode, c.Authority)},
			Answer{Reason: reasonClientAuth, Status: 400, Summary: "400 from the proxy: no certificate can be valid without its authority",
				Next: "kerngatectl problems says what is wrong with auth-tls-secret; mend the Secret"})
		return
	}
	what := map[string]string{
		"required":       "clients must show a certificate",
		"optional":       "clients may show a certificate, which must be valid,",
		"optional_no_ca": "clients may show any certificate; whether it is",
	}[c.Mode]
	signed := "signed by " + c.Authority
	if c.Mode == "optional_no_ca" {
		signed += " is told to the pod"
	}
	otherwise := "else 400"
	if c.ErrorPage != "" {
		otherwise = "else a redirect to " + c.ErrorPage
	}
	w.step(Step{Name: "client", Result: OK, Summary: fmt.Sprintf("%s %s at depth %d; %s", what, signed, c.Depth, otherwise)})
	if c.Mode == "optional_no_ca" {
		return
	}
	o := Outcome{When: "the client shows a certificate that is not valid", Reason: reasonClientAuth, Status: 400}
	if c.Mode == "required" {
		o.When = "the client shows no valid certificate"
	}
	if c.ErrorPage != "" {
		o.Reason, o.Status, o.Location = reasonErrorPage, 302, c.ErrorPage
	}
	w.otherwise(o)
}

func (w *walk) defaultCertificate() string {
	if id := w.in.Routes.DefaultCertificate; id != "" {
		return "the default certificate " + id + ", " + w.describe(id)
	}
	return "a certificate that the proxy has signed itself, which clients do not trust (--default-certificate)"
}

// describe returns what is known of a certificate.
func (w *walk) describe(id string) string {
	if w.in.Certificates == nil {
		return "not known: " + w.in.NoAgent
	}
	i := slices.IndexFunc(w.in.Certificates.Certificates, func(c status.Certificate) bool { return c.ID == id })
	if i < 0 {
		return "not there (any more)"
	}
	c := w.in.Certificates.Certificates[i]
	return fmt.Sprintf("%s for %s until %s", c.Type, strings.Join(c.Names, " "), c.NotAfter.UTC().Format(time.RFC3339))
}

// redirect ends a clear-text request that is sent to https.
func (w *walk) redirect(host *status.Host, r *status.Route) {
	if w.in.Target.Scheme != "http" || !r.RedirectHTTPS {
		return
	}
	url := w.inTLS()
	why := "clear-text requests of this path are sent to https: the Ingress has TLS for the host, or asks for it"
	next := "explain " + url + "; annotation nginx.ingress.kubernetes.io/ssl-redirect: \"false\" serves clear text too"
	if host.TLS != nil && host.TLS.Client != nil {
		why = "clear-text requests of this host are sent to https: its clients must show a certificate, which no annotation opens in clear text"
		next = "explain " + url + "; only paths below /.well-known/acme-challenge/ are served in clear text on this host"
	}
	w.stop(Step{Name: "redirect", Summary: why}, Answer{Reason: reasonRedirect, Status: 308, Location: url, Summary: "308 from the proxy, Location: " + url, Next: next})
}

// inTLS returns the URL that clear-text requests are sent to.
func (w *walk) inTLS() string {
	host := w.in.Target.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if rules := w.in.Rules; rules != nil && rules.RedirectPort != 0 && rules.RedirectPort != 443 {
		host = fmt.Sprintf("%s:%d", host, rules.RedirectPort)
	}
	return "https://" + host + w.in.Target.Sent
}

// clearText ends a clear-text request of a host whose clients must show a certificate.
func (w *walk) clearText(host *status.Host, open bool) {
	if w.in.Target.Scheme != "http" || open || host == nil || host.TLS == nil || host.TLS.Client == nil || host.TLS.Client.Mode != "required" {
		return
	}
	w.stop(Step{Name: "client", Summary: "clients of this host must show a certificate, which nobody can in clear text"},
		Answer{Reason: reasonClientAuth, Status: 400, Summary: "400 from the proxy: this host asks for a client certificate", Next: "explain " + w.inTLS()})
}
