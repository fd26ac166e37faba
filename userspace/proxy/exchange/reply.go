package exchange

import (
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// reply is an answer of the proxy's own. Rules edit the fields of one that is a line of plain
// text: it is a policy.Head.
type reply struct {
	head       message.Response // of an answer that is none
	fields     []message.Added
	location   []byte // where the client is sent, if the reason is to send it somewhere
	status     int    // while rules edit it
	badRequest int    // the status of BadRequest, 0: its own
}

var plainText = []byte("text/plain")

// Has reports whether the answer has a field, like the methods below a part of policy.Head.
func (r *reply) Has(lower string) bool {
	return lower == "content-type" || slices.ContainsFunc(r.fields, func(a message.Added) bool { return strings.EqualFold(a.Name, lower) })
}

// Drop leaves out all fields of a name.
func (r *reply) Drop(lower string) {
	r.fields = slices.DeleteFunc(r.fields, func(a message.Added) bool { return strings.EqualFold(a.Name, lower) })
}

// Clear leaves out all fields whose names begin so.
func (r *reply) Clear(lower string) {
	r.fields = slices.DeleteFunc(r.fields, func(a message.Added) bool { return policy.BeginsLike(a.Name, lower) })
}

// Add leaves out what describes another body than the line.
func (r *reply) Add(name string, value []byte) {
	switch strings.ToLower(name) {
	case "content-type", "content-encoding", "content-range", "x-content-type-options", "location":
		return
	}
	r.fields = append(r.fields, message.Added{Name: name, Value: value})
}

// Type returns the value of Content-Type.
func (r *reply) Type() []byte { return plainText }

// Status returns the answer's status.
func (r *reply) Status() int { return r.status }

// serverName is told where a pod names no server of its own (RFC 9110 section 10.2.4),
// without a version, which is of use to attackers alone.
var serverName = []byte("kerngate")

// AnswerFields lists what is added to an answer, a pod's or, with present empty, one of the
// proxy's own. It is valid until it is called again.
func (x *Exchange) AnswerFields(present message.FieldSet) []message.Added {
	x.reply.fields = x.reply.fields[:0]
	if !present.Has(message.FieldServer) {
		x.reply.fields = append(x.reply.fields, message.Added{Name: "Server", Value: serverName})
	}
	if len(x.conf.Settings.HSTS) > 0 && x.Connection.TLS != nil && !present.Has(message.FieldStrictTransport) {
		x.reply.fields = append(x.reply.fields, message.Added{Name: "Strict-Transport-Security", Value: x.conf.Settings.HSTS})
	}
	if c := x.Connection; x.worker.AltSvc != nil && x.conf.Settings.HTTP3 && c.TLS != nil && c.Protocol != HTTP3 {
		value := x.worker.AltSvc
		if own := x.conf.Settings.PublicAltSvc; own != nil {
			value = own
		}
		x.reply.fields = append(x.reply.fields, message.Added{Name: "Alt-Svc", Value: value})
	}
	return x.reply.fields
}

// ReplyFields lists what is added to an answer of the proxy's own.
func (x *Exchange) ReplyFields(reason Reason) []message.Added {
	x.AnswerFields(0)
	if reason == RedirectHTTPS || reason == ErrorPage {
		x.reply.fields = append(x.reply.fields, message.Added{Name: "Location", Value: x.reply.location})
	}
	if p := x.rules.policy; p != nil && reason != ClientCertificate && reason != Shed {
		x.reply.status = x.Outcome.Status
		x.values = p.EditReply(x.values, &x.rules.request, &x.reply)
	}
	return x.reply.fields
}
