package config

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// PassToken returns what the proxies of a cluster know their own requests by, when these come
// back to one of them. It says nothing about the key.
func PassToken(key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("requests that have passed a proxy"))
	return hex.AppendEncode(nil, mac.Sum(nil)[:8])
}
