package accesslog

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/text/logformat"
)

// appendTemplate appends a line as a template says. What is not known is "-".
func appendTemplate(dst []byte, f *logformat.Format, x *exchange.Exchange, end, sent int64) []byte {
	for i := range f.Parts {
		p := &f.Parts[i]
		if p.Field == logformat.Literal {
			dst = append(dst, p.Text...)
			continue
		}
		at := len(dst)
		if dst = appendField(dst, f, p, x, end, sent); len(dst) == at {
			dst = append(dst, '-')
		}
	}
	return append(dst, '\n')
}

// appendField appends one value. What a client can choose goes through appendValue.
func appendField(dst []byte, f *logformat.Format, p *logformat.Part, x *exchange.Exchange, end, sent int64) []byte {
	o, r := &x.Outcome, x.Request
	switch p.Field {
	case logformat.Time:
		return x.At(o.Start).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	case logformat.TimeCombined:
		return x.At(o.Start).UTC().AppendFormat(dst, "02/Jan/2006:15:04:05 -0700")
	case logformat.Client:
		return appendAddress(dst, x)
	case logformat.Peer:
		if x.Connection.Peer != (netip.AddrPort{}) {
			return x.Connection.Peer.AppendTo(dst)
		}
	case logformat.Method:
		return appendValue(dst, r.Method, f, p)
	case logformat.Host:
		return appendValue(dst, r.Authority, f, p)
	case logformat.Path:
		return appendValue(dst, r.Path, f, p)
	case logformat.Query:
		return appendValue(dst, r.Query, f, p)
	case logformat.Target:
		if dst = appendValue(dst, r.Path, f, p); r.Query != nil {
			dst = appendValue(append(dst, '?'), r.Query, f, p)
		}
	case logformat.Proto:
		return appendProto(dst, x)
	case logformat.Status:
		return strconv.AppendInt(dst, int64(o.Status), 10)
	case logformat.Reason:
		return append(dst, o.Reason.String()...)
	case logformat.Detail:
		return append(dst, o.Detail...)
	case logformat.GRPCStatus:
		return append(dst, o.GRPC.String()...)
	case logformat.BytesIn:
		return strconv.AppendInt(dst, o.Received, 10)
	case logformat.BytesOut:
		return strconv.AppendInt(dst, sent, 10)
	case logformat.Duration:
		return appendMicroseconds(dst, end-o.Start)
	case logformat.FirstByte:
		if o.First > 0 {
			return appendMicroseconds(dst, o.First-o.Start)
		}
	case logformat.Upstream:
		if o.Tries > 0 {
			return o.Upstream.AppendTo(dst)
		}
	case logformat.Tries:
		return strconv.AppendInt(dst, int64(o.Tries), 10)
	case logformat.Service:
		if o.Service != nil {
			return append(dst, o.Service.Name...)
		}
	case logformat.Ingress:
		return o.Source.AppendFullName(dst)
	case logformat.RouteKind:
		return append(dst, o.Source.Kind...)
	case logformat.RequestID:
		if r.Method != nil {
			return appendValue(dst, x.RequestID(), f, p)
		}
	case logformat.TraceID, logformat.SpanID:
		trace, span, traced := x.Trace()
		switch {
		case !traced:
		case p.Field == logformat.TraceID:
			return hex.AppendEncode(dst, trace[:])
		default:
			return hex.AppendEncode(dst, span[:])
		}
	case logformat.RequestField:
		return appendValue(dst, r.Lookup(p.Text), f, p)
	}
	return dst
}

func appendAddress(dst []byte, x *exchange.Exchange) []byte {
	if a := x.Client(); a.IsValid() {
		return a.AppendTo(dst)
	}
	return dst
}

func appendMicroseconds(dst []byte, ns int64) []byte {
	return strconv.AppendInt(dst, ns/int64(time.Microsecond), 10)
}

func appendProto(dst []byte, x *exchange.Exchange) []byte {
	switch x.Connection.Protocol {
	case exchange.HTTP2:
		return append(dst, "HTTP/2"...)
	case exchange.HTTP3:
		return append(dst, "HTTP/3"...)
	case exchange.Passthrough:
		return append(dst, "TLS"...)
	}
	return strconv.AppendInt(append(dst, "HTTP/1."...), int64(x.Request.Minor), 10)
}

// appendValue appends a client's bytes. Those that could end the line, the quotes or the
// value become \xHH, as nginx has them, and so does all that is not ASCII.
func appendValue(dst, v []byte, f *logformat.Format, p *logformat.Part) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range v {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' || !p.Quoted && f.Escape[c] {
			dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
