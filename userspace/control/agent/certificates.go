package agent

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/control/tickets"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// expiresSoon is how long before its end a certificate becomes a problem: what renews
	// certificates does so much earlier.
	expiresSoon = 14 * 24 * time.Hour
	// judgeInterval is how often certificates are held against the clock.
	judgeInterval = time.Minute
)

// certificates is what the agent knows of those in the model.
type certificates struct {
	source   []model.Certificate // as the source gave them
	fallback string              // DefaultCertificate of the source
	known    map[string]known    // by id
	usersOf  *model.Model        // for which hosts and users of known were noted
	revoked  []string            // ids
	judged   time.Time
}

// known is a certificate that was parsed, and who uses it.
type known struct {
	chain []byte
	leaf  *x509.Certificate
	hosts []string          // that offer it, "" any
	users []model.ObjectRef // Ingresses behind those hosts, and behind routes that show it to pods
}

// completeCertificates makes the model's certificates of those of the source, the default
// one in files, and OCSP responses.
func (a *Agent) completeCertificates() {
	list := slices.Clone(a.certificates.source)
	a.model.DefaultCertificate = a.certificates.fallback
	if f := a.DefaultFiles; f != nil {
		list = append(list, f.certificate)
		a.model.DefaultCertificate = f.certificate.ID
	}
	a.certificates.revoked = a.Stapler.Staple(list)
	slices.SortFunc(list, func(x, y model.Certificate) int { return cmp.Compare(x.ID, y.ID) })
	a.model.Certificates = list

	before := a.certificates.known
	a.certificates.known = make(map[string]known, len(list))
	for _, c := range list {
		k := known{chain: c.Chain, leaf: before[c.ID].leaf}
		if k.leaf == nil || !bytes.Equal(before[c.ID].chain, c.Chain) {
			var err error
			if k.leaf, err = c.Leaf(); err != nil {
				continue // the source has read it, so this cannot be
			}
		}
		a.certificates.known[c.ID] = k
	}
	a.certificates.usersOf = nil
	a.Metrics.certificates(a.certificates.known)
	a.judgeCertificates(time.Now())
}

// noteUsers finds out who uses which certificate, unless it is known.
func (a *Agent) noteUsers() {
	if a.certificates.usersOf == a.model {
		return
	}
	a.certificates.usersOf = a.model
	for id, k := range a.certificates.known {
		k.hosts, k.users = nil, nil
		a.certificates.known[id] = k
	}
	use := func(id string, change func(*known)) {
		if k, ok := a.certificates.known[id]; ok {
			change(&k)
			a.certificates.known[id] = k
		}
	}
	user := func(k *known, ref model.ObjectRef) {
		if !slices.Contains(k.users, ref) {
			k.users = append(k.users, ref)
		}
	}
	for _, h := range a.model.Hosts {
		if h.TLS != nil {
			for _, id := range h.TLS.Certificates {
				use(id, func(k *known) {
					k.hosts = append(k.hosts, h.Name)
					user(k, h.TLS.Source)
				})
			}
		}
		for _, r := range h.Routes {
			if r.Upstream.TLS != nil {
				use(r.Upstream.TLS.Certificate, func(k *known) { user(k, r.Source) })
			}
			for _, c := range r.Splits {
				if c.Upstream != nil && c.Upstream.TLS != nil {
					use(c.Upstream.TLS.Certificate, func(k *known) { user(k, c.Source) })
				}
			}
		}
	}
}

// judgeCertificates reports those that have expired or soon will, are not valid yet, or
// are revoked. They are served all the same: the client decides.
func (a *Agent) judgeCertificates(now time.Time) {
	a.certificates.judged = now
	a.noteUsers()
	var found []model.Problem
	if f := a.DefaultFiles; f != nil && f.problem != "" {
		found = append(found, model.Problem{
			Object: model.ObjectRef{Kind: "File", Name: f.chain}, Severity: model.Warning, Reason: "CertificateUnreadable",
			Message: "--default-certificate: " + f.problem + "; what was last read stays in force",
		})
	}
	for _, c := range a.model.Certificates {
		k, ok := a.certificates.known[c.ID]
		if !ok {
			continue
		}
		reason, message := "", ""
		switch end := k.leaf.NotAfter.UTC().Format(time.RFC3339); {
		case slices.Contains(a.certificates.revoked, c.ID):
			reason, message = "CertificateRevoked", "is revoked, says its authority: clients will refuse it; have a new one issued"
		case !now.Before(k.leaf.NotAfter):
			reason, message = "CertificateExpired", "has expired on "+end+": clients refuse it; renew it"
		case now.Add(expiresSoon).After(k.leaf.NotAfter):
			reason, message = "CertificateExpiring", "expires on "+end+": renew it"
		case now.Before(k.leaf.NotBefore):
			reason, message = "CertificateNotYetValid", "is not valid before "+k.leaf.NotBefore.UTC().Format(time.RFC3339)+": clients refuse it until then"
		default:
			continue
		}
		users := k.users
		if len(users) == 0 {
			users = []model.ObjectRef{objectOf(c.ID)}
		}
		for _, u := range users {
			found = append(found, model.Problem{Object: u, Severity: model.Warning, Reason: reason, Message: "certificate " + c.ID + " " + message})
		}
	}
	a.problems.set(fromCertificates, found)
}

// objectOf returns where a certificate of that id stands.
func objectOf(id string) model.ObjectRef {
	if path, file := strings.CutPrefix(id, "file:"); file {
		return model.ObjectRef{Kind: "File", Name: path}
	}
	namespace, name, _ := strings.Cut(id, "/")
	return model.ObjectRef{Kind: "Secret", Namespace: namespace, Name: name}
}

// lookAfterCertificates does what is due by the clock: files that have changed, and
// certificates that come to their end.
func (a *Agent) lookAfterCertificates(now time.Time) {
	switch {
	case a.model == nil:
	case a.DefaultFiles.refresh(now):
		a.Log.Info().Str("certificate", a.DefaultFiles.certificate.ID).Msg("the default certificate's files have changed")
		a.certificatesChanged()
	case now.Sub(a.certificates.judged) >= judgeInterval:
		a.judgeCertificates(now)
		a.report()
	}
}

// certificatesChanged tells proxies of certificates that changed without the source.
func (a *Agent) certificatesChanged() {
	if a.model == nil {
		return
	}
	a.completeCertificates()
	a.forgetRefusals()
	if a.routing != nil {
		a.publish(&model.Changed{Trust: true})
	}
	a.report()
}

// takeTickets passes new ticket keys on.
func (a *Agent) takeTickets(ring tickets.Ring) {
	a.tickets = &feedpb.TicketKeys{Keys: ring.Keys(), Affinity: ring.Affinity[:]}
	a.Log.Info().Time("in_use_since", ring.Rotated).Msg("session ticket keys")
	if a.routing != nil {
		a.publish(&model.Changed{})
	}
}

// certificateList tells kerngatectl about them, without their keys.
func (a *Agent) certificateList() status.Certificates {
	out := status.Certificates{Certificates: []status.Certificate{}}
	if a.model == nil {
		return out
	}
	a.noteUsers()
	for _, c := range a.model.Certificates {
		k, ok := a.certificates.known[c.ID]
		if !ok {
			continue
		}
		told := status.Certificate{
			ID: c.ID, Type: model.KeyType(k.leaf), Names: model.NamesOf(k.leaf), Issuer: k.leaf.Issuer.String(),
			NotBefore: k.leaf.NotBefore.UTC(), NotAfter: k.leaf.NotAfter.UTC(), Fingerprint: model.Fingerprint(k.leaf),
			Default: c.ID == a.model.DefaultCertificate, Stapled: len(c.OCSP) > 0,
			Hosts: append([]string{}, k.hosts...), UsedBy: []string{},
		}
		for _, u := range k.users {
			told.UsedBy = append(told.UsedBy, u.Short())
		}
		out.Certificates = append(out.Certificates, told)
	}
	return out
}

// tlsOf tells how connections to a host are taken, nil if nothing is special about them.
func tlsOf(t *model.TLS) *status.TLS {
	if t == nil {
		return nil
	}
	out := &status.TLS{Certificates: t.Certificates, Passthrough: t.Passthrough.String(), Kind: t.Source.Kind, Source: t.Source.FullName()}
	if c := t.Client; c != nil {
		out.Client = &status.ClientAuth{Mode: c.Mode.String(), Authority: c.Authority, Depth: c.Depth, ErrorPage: c.ErrorPage, PassedOn: c.PassChain}
	}
	return out
}

// authoritiesOf lists the authorities that are there: a host that names another one
// refuses every client.
func authoritiesOf(m *model.Model) []string {
	ids := []string{}
	for _, a := range m.Authorities {
		ids = append(ids, a.ID)
	}
	return ids
}
