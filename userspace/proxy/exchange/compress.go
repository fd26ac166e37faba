package exchange

import (
	"bytes"
	"errors"
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
	"github.com/kerngate/kerngate/userspace/proxy/rules/compress"
	"github.com/kerngate/kerngate/userspace/text/compression"
)

// Uncompressed is why a response went out as the pod sent it, on a route that compresses.
type Uncompressed uint8

const (
	NotAccepted      Uncompressed = iota // the client takes none of the codings
	OtherType                            // not worth it, or not known to be
	TooShort                             // likewise
	Unsuitable                           // by its status; or it has no body, or a part of one
	AlreadyEncoded                       // by the pod
	NotTransformable                     // Cache-Control: no-transform
	EncodersBusy                         // as many responses as may be are being compressed

	UncompressedReasons = iota
)

var uncompressedTokens = [UncompressedReasons]string{"not_accepted", "other_type", "too_short", "unsuitable", "already_encoded",
	"no_transform", "encoders_busy"}

func (u Uncompressed) String() string { return uncompressedTokens[u] }

// packing is the compression of a response.
type packing struct {
	stream *compress.Stream // nil: it is not compressed
	prompt bool             // nothing is held back while the pod pauses
	at     int64            // loop time of the turn in which
	bytes  int              // so many were compressed
}

// described is what a response says of its body.
type described struct {
	typ         []byte
	encoded     bool // by the pod
	keep        bool // Cache-Control: no-transform (RFC 9111 section 5.2.2.6)
	varies      bool // caches know that Accept-Encoding matters
	etag        *message.Field
	contentSize int64 // bytes, -1: not known
}

func describe(r *message.Response) described {
	d := described{contentSize: r.ContentLength}
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.HopByHop {
			continue
		}
		switch f.ID {
		case message.FieldContentType:
			d.typ = f.Value
		case message.FieldContentEncoding:
			d.encoded = true
		case message.FieldCacheControl:
			d.keep = d.keep || containsFold(f.Value, "no-transform")
		case message.FieldOther:
			switch {
			case chars.EqualFold(f.Name, "etag"):
				d.etag = f
			case chars.EqualFold(f.Name, "vary"):
				d.varies = d.varies || containsFold(f.Value, "accept-encoding") || bytes.IndexByte(f.Value, '*') >= 0
			}
		}
	}
	return d
}

// compress makes of a pod's final response the head of a compressed one where rules, client
// and response allow it. The body then goes through x.packing.
func (x *Exchange) compress(r *message.Response) {
	own := x.conf.Settings.Compression
	rules := own
	if p := x.rules.policy; p != nil && p.Compression != nil {
		rules = p.Compression
	}
	if len(rules.Encodings) == 0 || x.call.on {
		return
	}
	m := x.worker.Metrics
	d := describe(r)
	var not Uncompressed
	switch {
	case !compressible(r, x.Request.MethodID):
		not = Unsuitable
	case d.encoded:
		not = AlreadyEncoded
	case d.keep:
		not = NotTransformable
	case !rules.Gains(own, d.typ):
		not = OtherType
	case d.contentSize >= 0 && d.contentSize < rules.MinBytes(own):
		not = TooShort
	default:
		if !d.varies {
			r.Add("Vary", acceptEncoding)
		}
		e := negotiate(x.Request, rules)
		switch {
		case e == compression.Identity:
			not = NotAccepted
		case !x.openEncoder(e, r):
			not = EncodersBusy
		default:
			x.encode(r, d, e)
			return
		}
	}
	m.Uncompressed[not].Add(1)
}

var acceptEncoding = []byte("Accept-Encoding")

// compressible goes by status and framing. A response to HEAD has the head of the one to GET
// (RFC 9110 section 9.3.2).
func compressible(r *message.Response, method message.Method) bool {
	switch {
	case r.Status < 200, r.Status >= 300 && r.Status < 400, r.Status == 204, r.Status == 205, r.Status == 206:
		return false
	case r.Present.Has(message.FieldContentRange):
		return false
	}
	return r.Body != message.BodyNone || method == message.MethodHead
}

// negotiate chooses the coding. HTTP/1.0 clients get none: they could not tell a body that
// ends early from one that is whole.
func negotiate(r *message.Request, rules *compress.Rules) compression.Encoding {
	if r.Minor == 0 || !r.Present.Has(message.FieldAcceptEncoding) {
		return compression.Identity
	}
	var accepted compression.Accepted
	for i := range r.Fields {
		if f := &r.Fields[i]; f.ID == message.FieldAcceptEncoding {
			accepted.Add(f.Value)
		}
	}
	return accepted.Choose(rules.Encodings)
}

// encode rewrites the head: its length is not known any more, its parts cannot be asked for,
// and what it tags is the same body only in meaning (RFC 9110 sections 8.8.1, 14.3).
func (x *Exchange) encode(r *message.Response, d described, e compression.Encoding) {
	r.Add("Content-Encoding", codings[e])
	for _, name := range [...]string{"accept-ranges", "content-md5", "digest", "content-digest"} {
		r.Drop(name)
	}
	if d.etag != nil && !bytes.HasPrefix(d.etag.Value, weak) {
		at := len(x.values)
		x.values = append(append(x.values, weak...), d.etag.Value...)
		d.etag.Value = x.values[at:len(x.values):len(x.values)]
	}
	r.ContentLength = -1
	if r.Chunked = true; r.Body != message.BodyNone {
		r.Body = message.BodyChunked
		x.packing.prompt = d.contentSize < 0
	}
}

var (
	weak    = []byte("W/")
	codings = func() (list [compression.Encodings][]byte) {
		for i := range list {
			list[i] = []byte(compression.Encoding(i).String())
		}
		return list
	}()
)

// openEncoder takes an encoder if there is a body to compress.
func (x *Exchange) openEncoder(e compression.Encoding, r *message.Response) bool {
	if r.Body == message.BodyNone {
		return true
	}
	x.packing = packing{stream: x.worker.Encoders.Open(e)}
	return x.packing.stream != nil
}

// pack takes the next piece of a body, and what the pod's side said with it. It returns what
// there is to send, which is valid until it is called again.
func (k *packing) pack(p []byte, from error, now int64) ([]byte, error) {
	var err error
	switch {
	case len(p) > 0:
		if k.at != now {
			k.at, k.bytes = now, 0
		}
		k.bytes += len(p)
		err = k.stream.Write(p)
	case from == reactor.ErrWouldBlock && k.prompt:
		err = k.stream.Flush() // of a body without a length, the client may wait for just this
	}
	if from == io.EOF {
		err = errors.Join(err, k.stream.Close())
	}
	if err != nil {
		return nil, &fault{reason: Crashed, detail: "compression"}
	}
	return k.stream.Take(), from
}

// packQuantum is how much of a body is compressed in one turn of the loop before others have
// theirs: about a millisecond's work.
const packQuantum = 64 << 10

// spent reports whether the response had its part of the turn at a loop time.
func (k *packing) spent(now int64) bool {
	return k.stream != nil && k.bytes >= packQuantum && k.at == now
}

// restsPacking reports whether the exchange has compressed enough for this turn. It goes on
// in the next.
func (x *Exchange) restsPacking() bool {
	if !x.packing.spent(x.worker.Loop.Now()) {
		return false
	}
	x.worker.Loop.Submit(x.alarm.wake)
	return true
}

// end gives the encoder back.
func (k *packing) end(w *Worker) {
	if k.stream == nil {
		return
	}
	m := w.Metrics
	m.Compressed[k.stream.Encoding].Add(1)
	m.PackedIn.Add(k.stream.In)
	m.PackedOut.Add(k.stream.Out)
	w.Encoders.Put(k.stream)
	k.stream = nil
}
