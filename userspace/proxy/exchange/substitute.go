package exchange

import (
	"bytes"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// substitute changes the head of a pod's final response in whose body rules replace texts: its
// length and what else describes the pod's bytes do not hold. The body goes through
// x.response.replacing.
func (x *Exchange) substitute(r *message.Response) {
	p := x.rules.policy
	if p == nil || r.ContentLength == 0 || r.Status == 204 || r.Status == 206 || r.Status == 304 || r.Present.Has(message.FieldContentRange) || x.call.on {
		return
	}
	d := describe(r)
	if d.encoded || d.keep || !p.Substitutes(d.typ) {
		return
	}
	if p.KeepsModified() {
		if d.etag != nil && !bytes.HasPrefix(d.etag.Value, weak) {
			at := len(x.values)
			x.values = append(append(x.values, weak...), d.etag.Value...)
			d.etag.Value = x.values[at:len(x.values):len(x.values)]
		}
	} else {
		r.Drop("last-modified")
		r.Drop("etag")
	}
	for _, name := range [...]string{"accept-ranges", "content-md5", "digest", "content-digest"} {
		r.Drop(name)
	}
	r.ContentLength = -1
	if r.Chunked = true; r.Body != message.BodyNone {
		r.Body = message.BodyChunked
		x.response.replacing = p.Substitute(&x.rules.request)
	}
}
