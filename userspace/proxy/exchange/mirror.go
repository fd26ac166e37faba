package exchange

import (
	"bytes"
	"context"
	"errors"

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

// keep keeps a piece of the body for the copies. A body that is too large is not sent to them at
// all, which it reports by false: half of one would be a request that no client made.
func (m *mirroring) keep(p []byte, first bool) bool {
	if first {
		m.body = m.body[:0] // maybe it was read for another pod before
	}
	if len(m.body)+len(p) > maxCopyBody {
		m.on = false
		return false
	}
	m.body = append(m.body, p...)
	return true
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
			Host: string(m.Host(nil, &x.rules.request)), Header: x.outgoing.header(),
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
