package model

import (
	"fmt"
	"net/netip"
	"strings"
)

// Defence is what objects say about whose packets to the ingress addresses are dropped.
type Defence struct {
	Deny  []netip.Prefix // sorted
	Allow []netip.Prefix // exceptions from Deny, sorted
}

func (d Defence) dump(b *strings.Builder) {
	for _, p := range d.Deny {
		fmt.Fprintf(b, "deny %s\n", p)
	}
	for _, p := range d.Allow {
		fmt.Fprintf(b, "allow %s\n", p)
	}
}
