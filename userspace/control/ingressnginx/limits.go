package ingressnginx

import (
	"time"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

const maxRate = 1 << 24

// limits reads what bounds a client address. ingress-nginx answers 503.
func (r *reader) limits() {
	l := model.Limits{Status: 503, Scope: r.in.Namespace + "/" + r.in.Name}
	if c := r.in.Controller; c != nil && c.limitStatus != 0 {
		l.Status = c.limitStatus
	}
	multiplier := r.number("limit-burst-multiplier", 5, 1, 1000)
	for _, rate := range []struct {
		key    string
		period time.Duration
	}{{"limit-rps", time.Second}, {"limit-rpm", time.Minute}} {
		if n := r.number(rate.key, 0, 0, maxRate); n > 0 {
			l.Rates = append(l.Rates, model.Rate{Requests: uint32(n), Period: rate.period, Burst: uint32(min(n*multiplier, maxRate))})
		}
	}
	l.Connections = uint32(r.number("limit-connections", 0, 0, maxRate))
	if key, v, set := r.text("limit-allowlist", "limit-whitelist"); set {
		exempt, err := prefixes(v)
		if err != nil {
			r.find(key, Invalid, "%v; no client is exempt", err)
		}
		l.Exempt = exempt
	}
	if len(l.Rates) > 0 || l.Connections > 0 {
		r.want().Limits = &l
	}
}

// body reads the bound on request bodies, and whether they are read before a pod is chosen.
func (r *reader) body() {
	r.requestBuffering()
	_, v, set := r.text("proxy-body-size")
	if !set {
		return
	}
	n, err := size(v)
	if err != nil {
		r.invalid("proxy-body-size", v, "bytes such as 512k, 8m or 1g, or 0 for no limit", "the proxy's own limit applies")
		return
	}
	r.want().MaxBody = &n
}

func (r *reader) requestBuffering() {
	const key = "proxy-request-buffering"
	switch _, v, set := r.text(key); {
	case !set:
	case v == "on":
		r.want().Buffering = model.BufferOn
	case v == "off":
		r.want().Buffering = model.BufferOff
		r.find(key, Supported, "")
	default:
		r.invalid(key, v, "on or off", "the default applies: a body without a length is buffered")
	}
}

// maxResponseHead is the most that proxy-buffer-size can ask for, in bytes.
const maxResponseHead = 1 << 20

// responseHead reads the bound on heads of responses, which in nginx must fit one buffer.
func (r *reader) responseHead() {
	_, v, set := r.text("proxy-buffer-size")
	if !set {
		return
	}
	n, err := size(v)
	if err != nil || n == 0 {
		r.invalid("proxy-buffer-size", v, "bytes such as 8k or 128k", "the proxy's own limit applies")
		return
	}
	if n > maxResponseHead {
		r.find("proxy-buffer-size", Difference, "response headers of up to 1 MiB are accepted, not %s", rule.Shorten(v))
	}
	r.want().MaxResponseHead = uint32(min(n, maxResponseHead))
}

// pod reads how long pods may take, and whether requests are logged.
func (r *reader) pod() {
	t := model.Timeouts{
		Connect: r.seconds("proxy-connect-timeout"),
		Send:    r.seconds("proxy-send-timeout"),
		Read:    r.seconds("proxy-read-timeout"),
	}
	if t != (model.Timeouts{}) {
		r.want().Timeouts = t
	}
	if !r.boolean("enable-access-log", true) {
		r.want().Unlogged = true
	}
	if _, v, set := r.text("proxy-http-version"); set && v != "1.1" {
		r.find("proxy-http-version", Difference, "pods are sent HTTP/1.1, or HTTP/2 if backend-protocol says so, not %s", rule.Shorten(v))
	}
}
