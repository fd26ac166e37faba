package policy

import (
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// Retry says when a request is offered to another pod. nil: when it did not get anywhere.
type Retry struct {
	NonIdempotent bool
	Tries         int           // pods that are asked, at most; 0: as many as the proxy allows
	Within        time.Duration // no further try begins after that time; 0: no limit
	on            model.RetryOn
}

func compileRetry(p *feedpb.Retry) (*Retry, error) {
	if p == nil {
		return nil, nil
	}
	return &Retry{
		NonIdempotent: p.NonIdempotent, Tries: int(min(p.Tries, 1<<16)),
		Within: milliseconds(p.WithinMs), on: model.RetryOn(p.On),
	}, nil
}

// On reports whether any of the conditions is one of the rule's.
func (r *Retry) On(conditions model.RetryOn) bool { return r.on&conditions != 0 }

// OnStatus reports whether another pod is to be asked because of a response with this status.
func (r *Retry) OnStatus(status int) bool {
	switch status {
	case 500:
		return r.On(model.Retry500)
	case 502:
		return r.On(model.Retry502)
	case 503:
		return r.On(model.Retry503)
	case 504:
		return r.On(model.Retry504)
	case 403:
		return r.On(model.Retry403)
	case 404:
		return r.On(model.Retry404)
	case 429:
		return r.On(model.Retry429)
	}
	return false
}
