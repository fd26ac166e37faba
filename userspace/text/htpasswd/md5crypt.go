package htpasswd

import (
	"crypto/md5"
	"strings"
)

// splitMD5 cuts "$apr1$salt$digest" or "$1$salt$digest".
func splitMD5(hash string) (magic, salt, digest string, ok bool) {
	for _, magic := range []string{"$apr1$", "$1$"} {
		if rest, found := strings.CutPrefix(hash, magic); found {
			salt, digest, ok = strings.Cut(rest, "$")
			return magic, salt, digest, ok && len(salt) <= 8
		}
	}
	return "", "", "", false
}

const md5Digits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// md5Crypt is the scheme that FreeBSD's crypt(3) began with in 1994; Apache's differs from
// it in its magic alone. Its oddities are the standard.
func md5Crypt(magic, salt string, password []byte) string {
	inner := md5.New()
	inner.Write(password)
	inner.Write([]byte(salt))
	inner.Write(password)
	mixed := inner.Sum(nil)

	d := md5.New()
	d.Write(password)
	d.Write([]byte(magic))
	d.Write([]byte(salt))
	for n := len(password); n > 0; n -= md5.Size {
		d.Write(mixed[:min(n, md5.Size)])
	}
	for n := len(password); n > 0; n >>= 1 {
		if n&1 != 0 {
			d.Write([]byte{0})
		} else {
			d.Write(password[:1])
		}
	}
	sum := d.Sum(nil)
	for i := range 1000 {
		d := md5.New()
		if i&1 != 0 {
			d.Write(password)
		} else {
			d.Write(sum)
		}
		if i%3 != 0 {
			d.Write([]byte(salt))
		}
		if i%7 != 0 {
			d.Write(password)
		}
		if i&1 != 0 {
			d.Write(sum)
		} else {
			d.Write(password)
		}
		sum = d.Sum(nil)
	}

	var out []byte
	put := func(bits uint32, digits int) {
		for range digits {
			out = append(out, md5Digits[bits&0x3f])
			bits >>= 6
		}
	}
	for i := range 5 {
		last := i + 12
		if i == 4 {
			last = 5
		}
		put(uint32(sum[i])<<16|uint32(sum[i+6])<<8|uint32(sum[last]), 4)
	}
	put(uint32(sum[11]), 2)
	return string(out)
}
