package exchange

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// maxRequestID is the longest X-Request-ID that is taken over from a client.
const maxRequestID = 128

// identity is what a request is called by all who log it.
type identity struct {
	id   [maxRequestID]byte
	len  int // of id, 0: it is not known yet
	own  [32]byte
	made bool // own is
}

// RequestID returns the request's id: the client's if it is a sane one, else OwnID.
func (x *Exchange) RequestID() []byte { return x.id.of(x.Request, x.worker.Rand) }

// OwnID returns 32 random hexadecimal digits, the same ones throughout the exchange, also
// where the client has chosen the request's id.
func (x *Exchange) OwnID() []byte { return x.id.random(x.worker.Rand) }

func (i *identity) of(r *message.Request, source *rand.ChaCha8) []byte {
	if i.len == 0 {
		v := r.Value(message.FieldXRequestID)
		if !saneID(v) {
			v = i.random(source)
		}
		i.len = copy(i.id[:], v)
	}
	return i.id[:i.len]
}

func (i *identity) random(source *rand.ChaCha8) []byte {
	if i.made {
		return i.own[:]
	}
	const digits = "0123456789abcdef"
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], source.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], source.Uint64())
	for n, b := range raw {
		i.own[2*n], i.own[2*n+1] = digits[b>>4], digits[b&15]
	}
	i.made = true
	return i.own[:]
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
