//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// role is what a process of this program does inside the lab: it is the program itself that is
// started on the hosts of attackers and of the honest client.
type role struct {
	name     string
	attack   string
	plain    string
	secure   string
	sources  string
	parts    int
	duration time.Duration
	rate     int
	http3    bool
}

const (
	roleAttacker = "attacker"
	roleClient   = "client"
)

var errNoRole = errors.New("no role")

func (r *role) flags() {
	flag.StringVar(&r.name, "role", "", "internal: what this process does in the lab")
	flag.StringVar(&r.attack, "role-attack", "", "internal: the attack")
	flag.StringVar(&r.plain, "role-plain", "", "internal: where the proxy speaks HTTP")
	flag.StringVar(&r.secure, "role-secure", "", "internal: where it speaks HTTPS")
	flag.StringVar(&r.sources, "role-sources", "", "internal: addresses to come from")
	flag.IntVar(&r.parts, "role-parts", 1, "internal: among how many attackers the attack is divided")
	flag.DurationVar(&r.duration, "role-duration", time.Second, "internal: for how long")
	flag.IntVar(&r.rate, "role-rate", clientRate, "internal: requests per second of the honest client")
	flag.BoolVar(&r.http3, "role-http3", false, "internal: ask by HTTP/3, too")
}

// args are the arguments of a process that plays it.
func (r *role) args() []string {
	return []string{
		"-role=" + r.name, "-role-attack=" + r.attack, "-role-plain=" + r.plain, "-role-secure=" + r.secure, "-role-sources=" + r.sources,
		fmt.Sprintf("-role-parts=%d", r.parts), fmt.Sprintf("-role-duration=%s", r.duration), fmt.Sprintf("-role-http3=%v", r.http3), fmt.Sprintf("-role-rate=%d", cmp.Or(r.rate, clientRate)),
	}
}

// play does what the role is about, and writes what came of it to standard output.
func (r *role) play() error {
	if r.name == "" {
		return errNoRole
	}
	plain, err := netip.ParseAddrPort(r.plain)
	if err != nil {
		return err
	}
	secure, err := netip.ParseAddrPort(r.secure)
	if err != nil {
		return err
	}
	var came any
	switch r.name {
	case roleClient:
		c := client{plain: plain, secure: secure, http3: r.http3}
		came = c.visit(r.rate, r.duration)
	case roleAttacker:
		a := attackOf(r.attack)
		if a == nil {
			return fmt.Errorf("no attack is called %q", r.attack)
		}
		f := &flooder{plain: plain, secure: secure, parts: r.parts, counts: map[string]int64{}}
		for _, text := range strings.Split(r.sources, ",") {
			source, err := netip.ParseAddr(text)
			if err != nil {
				return err
			}
			f.sources = append(f.sources, source)
		}
		if err := f.prepare(a); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), r.duration)
		defer cancel()
		f.ctx = ctx
		a.flood(f)
		f.wait()
		came = f.counts
	default:
		return fmt.Errorf("no role is called %q", r.name)
	}
	return json.NewEncoder(os.Stdout).Encode(came)
}
