package exchange

import (
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// bounds are the limits of an exchange: those of the settings where the rules of its route have
// none.
type bounds struct {
	settings *config.Settings
	policy   *policy.Policy // nil: none
}

func (x *Exchange) bounds() bounds { return bounds{&x.conf.Settings, x.rules.policy} }

// maxBody returns how many bytes a request's body may have, 0 for no limit.
func (b bounds) maxBody() int64 {
	if b.policy != nil && b.policy.MaxBody >= 0 {
		return b.policy.MaxBody
	}
	return b.settings.MaxBody
}

// response returns what bounds the head of the pod's response, and its trailers.
func (b bounds) response() http1.Limits {
	l := http1.Limits{Head: b.settings.MaxResponseHead, Fields: b.settings.MaxFields}
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
