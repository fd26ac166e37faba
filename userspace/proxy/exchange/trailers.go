package exchange

import (
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// passesTrailers reports whether fields behind a body go on, those of the request and those
// of its response. A receiver that merges them with the head would accept in them what the rules
// have kept out of the head, so they go on only if the client has said that it knows of them
// (RFC 9110 section 6.5.1), and in calls of gRPC, which end with them.
func (x *Exchange) passesTrailers() bool { return x.Request.TETrailers || x.call.on }

// dropAnnouncement leaves out the names of fields that will not come.
func (x *Exchange) dropAnnouncement() {
	if x.Request.Present.Has(message.FieldTrailer) && !x.passesTrailers() {
		x.Request.Drop("trailer")
	}
}

// requestTrailers returns what the pod gets of the fields behind the request's body: none by
// a name that the proxy or a rule of the route gives a value.
func (x *Exchange) requestTrailers() []message.Field {
	all := x.down.Trailers()
	if len(all) == 0 || x.body.gathered {
		return nil
	}
	x.body.trailers = x.body.trailers[:0]
	if x.passesTrailers() {
		for _, f := range all {
			if !x.owns(f.Name) {
				x.body.trailers = append(x.body.trailers, f)
			}
		}
	}
	if len(x.body.trailers) < len(all) {
		x.worker.Metrics.TrailersDropped.Add(1)
	}
	return x.body.trailers
}

// owns reports whether the value of a request's field is for the proxy or for a rule to say.
func (x *Exchange) owns(name []byte) bool {
	for i := range x.outgoing.Added {
		if policy.SameVariable(name, x.outgoing.Added[i].Name) {
			return true
		}
	}
	if named := x.conf.Settings.ForwardedFor; named != "" && policy.SameVariable(name, named) {
		return true
	}
	return x.rules.policy != nil && x.rules.policy.Owns(name)
}

// responseTrailers returns what the client gets of the fields behind the response's body.
func (x *Exchange) responseTrailers(all []message.Field) []message.Field {
	if x.passesTrailers() {
		return all
	}
	return nil
}

// makeRoomForTrailers has a body whose length is known sent in chunks, if an HTTP/2 pod announces
// fields behind it and a client that speaks HTTP/1.1 knows of such: they can be nowhere else.
func (x *Exchange) makeRoomForTrailers(r *message.Response) {
	if r.Body != message.BodyLength || !r.Present.Has(message.FieldTrailer) || !x.transport.HTTP2 ||
		x.Connection.Protocol != HTTP1 || x.Request.Minor == 0 || !x.Request.TETrailers {
		return
	}
	r.Body, r.Chunked, r.ContentLength = message.BodyChunked, true, -1
	r.Drop("content-length")
}
