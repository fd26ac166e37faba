package exchange

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/balance"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/upstream"
)

// Worker is what the exchanges of one reactor share.
type Worker struct {
	Loop           *reactor.Loop
	Pool           *upstream.Pool
	Balancer       *balance.Balancer
	Config         *atomic.Pointer[config.Snapshot]
	Metrics        *Metrics
	Rand           *rand.ChaCha8
	ResponseLimits http1.Limits
}

// connectReason classifies why no connection to a pod could be had.
func connectReason(err error) Reason {
	switch {
	case errors.Is(err, upstream.ErrTimeout):
		return ConnectTimeout
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS),
		errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EADDRNOTAVAIL):
		return Overloaded
	default:
		return ConnectFailed
	}
}

// rebuilt are the end-to-end fields that the proxy writes itself: what a client says of
// its own address must not reach a pod.
var rebuilt = http1.Fields(http1.FieldHost, http1.FieldContentLength, http1.FieldXForwardedFor,
	http1.FieldXForwardedProto, http1.FieldXForwardedHost, http1.FieldXForwardedPort,
	http1.FieldXRealIP, http1.FieldForwarded, http1.FieldXRequestID)

// appendHead appends the request head as the pod gets it.
func (x *Exchange) appendHead(dst []byte) []byte {
	r := x.Request
	dst = http1.AppendRequestLine(dst, r.Method, r.Path, r.Query)
	dst = append(dst, "Host: "...)
	dst = append(dst, r.Authority...)
	dst = append(dst, '\r', '\n')
	dst = r.AppendEndToEnd(dst, rebuilt)
	dst = append(dst, "X-Forwarded-For: "...)
	dst = x.Client.Addr().AppendTo(dst)
	if x.TLS {
		dst = append(dst, "\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: "...)
	} else {
		dst = append(dst, "\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: "...)
	}
	dst = append(dst, r.Authority...)
	dst = append(dst, "\r\nX-Forwarded-Port: "...)
	dst = strconv.AppendUint(dst, uint64(x.Local.Port()), 10)
	dst = append(dst, "\r\nX-Request-ID: "...)
	dst = append(dst, x.RequestID()...)
	switch {
	case r.Chunked:
		dst = append(dst, "\r\nTransfer-Encoding: chunked\r\n"...)
	case r.ContentLength >= 0:
		dst = append(dst, "\r\nContent-Length: "...)
		dst = strconv.AppendUint(dst, uint64(r.ContentLength), 10)
		dst = append(dst, '\r', '\n')
	default:
		dst = append(dst, '\r', '\n')
	}
	if x.upgrades() {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, r.Upgrade...)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n')
}

// upgrades reports whether the client asks for another protocol that may pass through. h2c
// may not: it would let the client talk to the pod past every rule of the proxy.
func (x *Exchange) upgrades() bool {
	u := x.Request.Upgrade
	return len(u) > 0 && !containsFold(u, "h2c")
}

func containsFold(s []byte, lower string) bool {
	for i := 0; i+len(lower) <= len(s); i++ {
		if foldPrefix(s[i:], lower) {
			return true
		}
	}
	return false
}

func foldPrefix(s []byte, lower string) bool {
	for i := range len(lower) {
		if s[i]|0x20 != lower[i]|0x20 {
			return false
		}
	}
	return true
}

// maxRequestID is the longest X-Request-ID that is taken over from a client.
const maxRequestID = 128

// RequestID returns the request's id: the client's if it is a sane one, else 32 random
// hexadecimal digits.
func (x *Exchange) RequestID() []byte {
	if x.idLen > 0 {
		return x.id[:x.idLen]
	}
	if v := x.Request.Value(http1.FieldXRequestID); saneID(v) {
		x.idLen = copy(x.id[:], v)
		return x.id[:x.idLen]
	}
	const digits = "0123456789abcdef"
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], x.worker.Rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], x.worker.Rand.Uint64())
	for i, b := range raw {
		x.id[2*i], x.id[2*i+1] = digits[b>>4], digits[b&15]
	}
	x.idLen = 32
	return x.id[:32]
}

func saneID(v []byte) bool {
	if len(v) == 0 || len(v) > maxRequestID {
		return false
	}
	for _, c := range v {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=':
		default:
			return false
		}
	}
	return true
}
