package exchange

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/pod/subrequest"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
)

// Copies of requests are sent and forgotten: what is answered, and whether, is of no
// interest, and none of them may be in the way of a request that a client waits for.
const (
	maxCopies   = 256      // under way at a time
	maxCopyBody = 64 << 10 // bytes of a body that is copied
)

var copies = limit.Shares{Most: maxCopies}

// Copy is what became of a copy.
type Copy uint8

const (
	CopySent    Copy = iota // and something answered
	CopyFailed              // nothing did, or not in time
	CopyTooLong             // the request's body is larger than what is copied
	CopyNoPod               // there is no pod, or nothing is known that the mirror's name leads to
	CopyTooMany             // too many are under way
	Copies
)

var copyNames = [Copies]string{"sent", "failed", "body_too_large", "no_pod", "too_many"}

// String returns the stable token that stands in the metric.
func (c Copy) String() string { return copyNames[c] }

// mirroring is what the route's mirrors get of the request's body.
type mirroring struct {
	on   bool // they get it once it is complete
	body []byte
}

// beginCopies prepares what the route's mirrors get: at once where there is no body, else
// when the client has sent all of it.
func (x *Exchange) beginCopies() {
	if x.rules.policy == nil || len(x.rules.policy.Mirrors) == 0 || upgrades(x.Request) {
		return
	}
	if !x.Request.HasBody() {
		x.copyTo()
		return
	}
	x.mirroring.on = true
	for i := range x.rules.policy.Mirrors {
		if x.rules.policy.Mirrors[i].Body {
			return
		}
	}
	x.mirroring.on = false
	x.copyTo()
}

// copyBody keeps a piece of the body for the copies. A body that is too large is not sent
// to them at all: half of one would be a request that no client made.
func (x *Exchange) copyBody(p []byte) {
	if !x.mirroring.on {
		return
	}
	if x.attempt.bytes == int64(len(p)) {
		x.mirroring.body = x.mirroring.body[:0] // the first piece, maybe for another pod
	}
	if len(x.mirroring.body)+len(p) > maxCopyBody {
		x.mirroring.on = false
		x.worker.Metrics.Mirrored[CopyTooLong].Add(uint64(len(x.rules.policy.Mirrors)))
		return
	}
	x.mirroring.body = append(x.mirroring.body, p...)
}

// sendCopies sends the copies of a request whose body is complete.
func (x *Exchange) sendCopies() {
	if x.mirroring.on {
		x.mirroring.on = false
		x.copyTo()
	}
}

func (x *Exchange) copyTo() {
	for i := range x.rules.policy.Mirrors {
		m := &x.rules.policy.Mirrors[i]
		r := subrequest.Request{
			Method: string(x.Request.Method), Target: string(m.To.Target(nil, &x.rules.request)),
			Host: string(m.Host(nil, &x.rules.request)), Header: x.podFields(),
		}
		if m.Body {
			r.Body = bytes.Clone(x.mirroring.body)
		}
		if !x.address(&m.To, &r) {
			x.worker.Metrics.Mirrored[CopyNoPod].Add(1)
			continue
		}
		if !copies.Take(r.By) {
			x.worker.Metrics.Mirrored[CopyTooMany].Add(1)
			continue
		}
		counts := &x.worker.Metrics.Mirrored // the exchange is somebody else's by the time
		go func() {                          // ends with its context at the latest
			defer copies.Return(r.By)
			ctx, cancel := context.WithTimeout(context.Background(), subrequestTime)
			defer cancel()
			switch _, err := subrequest.Do(ctx, r, 0); {
			case err == nil:
				counts[CopySent].Add(1)
			case errors.Is(err, subrequest.ErrTooMany):
				counts[CopyTooMany].Add(1)
			default:
				counts[CopyFailed].Add(1)
			}
		}()
	}
}

// podFields are the request's fields as a pod gets them.
func (x *Exchange) podFields() http.Header {
	h := x.clientFields()
	for i := range x.outgoing.Added {
		h.Add(x.outgoing.Added[i].Name, string(x.outgoing.Added[i].Value))
	}
	return h
}

// clientFields are the request's own fields, but for those that the proxy writes.
func (x *Exchange) clientFields() http.Header {
	h := http.Header{}
	for i := range x.Request.Fields {
		if f := &x.Request.Fields[i]; !f.HopByHop && !rebuilt.Has(f.ID) {
			name := http.CanonicalHeaderKey(string(f.Name))
			h[name] = append(h[name], string(f.Value))
		}
	}
	h.Del("Expect")
	return h
}
