package exchange

import (
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// bounds are the limits of an exchange: those of the settings where the rules of its route have
// none, but for what its client says of a call.
type bounds struct {
	settings *config.Settings
	policy   *policy.Policy // nil: none
	deadline time.Duration  // of a call, 0: none
}

func (x *Exchange) bounds() bounds { return bounds{&x.conf.Settings, x.rules.policy, x.call.deadline} }

// patience returns how long a side may say nothing: a call that has a deadline of its own
// is not ended before that, up to the limit for tunnels.
func (b bounds) patience(limit time.Duration) time.Duration {
	if b.deadline == 0 {
		return limit
	}
	return max(limit, min(b.deadline, b.settings.TunnelTimeout))
}

// bodyTimeout returns how long the client may send nothing of its body. While both sides speak in
// turn it may wait for the pod, for as long as the route lets the pod take.
func (b bounds) bodyTimeout(inTurn bool) time.Duration {
	limit := b.settings.BodyTimeout
	if b.policy != nil && inTurn {
		limit = max(limit, b.policy.ReadTimeout, b.policy.SendTimeout)
	}
	return b.patience(limit)
}

// tooLarge reports whether a request's body may not have n bytes.
func (b bounds) tooLarge(n int64) bool {
	most := b.settings.MaxBody
	if b.policy != nil && b.policy.MaxBody >= 0 {
		most = b.policy.MaxBody
	}
	return most > 0 && n > most
}

// response returns what bounds the head of the pod's response, and its trailers.
func (b bounds) response() message.Limits {
	l := message.Limits{Head: b.settings.MaxResponseHead, Fields: b.settings.MaxFields}
	if b.policy != nil {
		l.Head = max(l.Head, b.policy.MaxResponseHead)
	}
	l.RequestLine = l.Head
	return l
}

// connectTimeout returns how long a connection to a pod may take.
func (b bounds) connectTimeout() time.Duration {
	if b.policy != nil && b.policy.ConnectTimeout > 0 {
		return b.policy.ConnectTimeout
	}
	return b.settings.ConnectTimeout
}

// firstConnect returns how long a pod may take to accept a connection while another one can be
// asked.
func (b bounds) firstConnect() time.Duration {
	if b.policy != nil && b.policy.ConnectTimeout > 0 {
		return b.policy.ConnectTimeout // it was meant
	}
	return min(b.settings.FirstConnect, b.settings.ConnectTimeout)
}

// sendTimeout returns how long a pod may take nothing of the request.
func (b bounds) sendTimeout() time.Duration {
	if b.policy != nil && b.policy.SendTimeout > 0 {
		return b.policy.SendTimeout
	}
	return b.settings.ResponseTimeout
}

// readTimeout returns how long a pod may send nothing.
func (b bounds) readTimeout() time.Duration {
	if b.policy != nil && b.policy.ReadTimeout > 0 {
		return b.policy.ReadTimeout
	}
	return b.settings.ResponseTimeout
}
