package certtest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// forms are the ways in which a part from the middle of a key could be printed.
func forms(der, text []byte) (parts []string) {
	middle := func(s string) string { return s[len(s)/2 : len(s)/2+24] }
	parts = append(parts, middle(hex.EncodeToString(der)), middle(hex.EncodeToString(text)))
	parts = append(parts, middle(base64.StdEncoding.EncodeToString(text))) // as Secrets hold it
	decimal := fmt.Sprint(der[len(der)/2 : len(der)/2+12])                 // as %v prints bytes
	parts = append(parts, strings.Trim(decimal, "[]"))
	decimal = fmt.Sprint(text[len(text)/2 : len(text)/2+12])
	return append(parts, strings.Trim(decimal, "[]"))
}
