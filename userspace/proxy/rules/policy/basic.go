package policy

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/text/htpasswd"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// basic asks for a name and a password (RFC 7617).
type basic struct {
	challenge string
	users     *htpasswd.Users

	mu    sync.RWMutex
	known map[mac]struct{} // credentials that were verified
}

// mac stands for credentials in memory: the key is new in each process, so that it says
// nothing about the password to whoever reads it.
type mac [sha256.Size]byte

var macKey = func() (key [32]byte) {
	rand.Read(key[:])
	return key
}()

// maxKnown bounds the memory of verified credentials of a rule: beyond, it starts anew.
const maxKnown = 4096

// maxCredentials bounds what is decoded of an Authorization field, in bytes.
const maxCredentials = 2048

func compileBasic(b *feedpb.BasicAuth) (*basic, error) {
	if b == nil {
		return nil, nil
	}
	if !rule.Realm(b.Realm) {
		return nil, errors.New("the realm has a character that is not printable ASCII, or a quote")
	}
	users, _, err := htpasswd.Parse(b.Users)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	return &basic{
		challenge: `Basic realm="` + b.Realm + `", charset="UTF-8"`,
		users:     users,
		known:     map[mac]struct{}{},
	}, nil
}

// judge looks at the request's credentials. Those that were verified before pass at once,
// for the price of a SHA-256; others have to be verified.
func (b *basic) judge(q *Request) (Verdict, *Check) {
	var room [maxCredentials]byte
	name, password, ok := credentials(room[:0], q.Request)
	if !ok {
		return NeedPassword, nil
	}
	m := b.mac(name, password)
	b.mu.RLock()
	_, known := b.known[m]
	b.mu.RUnlock()
	if known {
		return Pass, nil
	}
	return Verify, &Check{basic: b, mac: m, name: bytes.Clone(name), password: bytes.Clone(password)}
}

// mac covers the hash too: once a user's password is changed, the old one is unknown.
func (b *basic) mac(name, password []byte) (m mac) {
	h := hmac.New(sha256.New, macKey[:])
	for _, part := range [][]byte{[]byte(b.users.Hash(name)), name, password} {
		n := len(part)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write(part)
	}
	h.Sum(m[:0])
	return m
}

// credentials decodes the Authorization field into dst, which has room for it all. Several
// such fields are no credentials: who knows which one the pod reads.
func credentials(dst []byte, r *message.Request) (name, password []byte, ok bool) {
	if !r.Present.Has(message.FieldAuthorization) {
		return nil, nil, false
	}
	var value []byte
	for i := range r.Fields {
		if r.Fields[i].ID == message.FieldAuthorization {
			if value != nil {
				return nil, nil, false
			}
			value = r.Fields[i].Value
		}
	}
	const scheme = "basic "
	if len(value) <= len(scheme) || !equalFold(value[:len(scheme)], scheme) {
		return nil, nil, false
	}
	encoded := bytes.TrimLeft(value[len(scheme):], " ")
	if base64.StdEncoding.DecodedLen(len(encoded)) > cap(dst) {
		return nil, nil, false
	}
	n, err := base64.StdEncoding.Decode(dst[:cap(dst)], encoded)
	if err != nil {
		return nil, nil, false
	}
	return cutColon(dst[:n])
}

func cutColon(b []byte) (name, password []byte, ok bool) {
	name, password, ok = bytes.Cut(b, []byte{':'})
	return name, password, ok && len(name) > 0
}

// Check is a password that has to be verified. Run takes milliseconds: not on a reactor.
type Check struct {
	basic          *basic
	mac            mac
	name, password []byte
}

// Run reports whether the password is right, and remembers if so.
func (c *Check) Run() bool {
	if !c.basic.users.Verify(c.name, c.password) {
		return false
	}
	b := c.basic
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) >= maxKnown {
		clear(b.known)
	}
	b.known[c.mac] = struct{}{}
	return true
}
