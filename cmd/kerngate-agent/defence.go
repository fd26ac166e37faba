package main

import (
	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader"
)

// defenceFlags are the flags of what is dropped before it costs anything.
type defenceFlags struct {
	strict     bool
	synCookies string
	synRate    int
}

func (f *defenceFlags) define(s *pflag.FlagSet) {
	s.BoolVar(&f.strict, "strict-packets", true, "drop packets to the ingress addresses that no honest host sends: sources that nobody has, headers that contradict themselves")
	s.StringVar(&f.synCookies, "syn-cookies", string(loader.SynCookiesAuto), "answer SYNs to the proxy by cookies before they cost anything: auto (too many of them, and the listen queue full), always (whenever the queue is full), off (left to the kernel)")
	s.IntVar(&f.synRate, "syn-rate", 0, "SYNs a second on one CPU from which --syn-cookies=auto looks at the queue; 0: the default (2000)")
}

// load adds what the programs are loaded with.
func (f *defenceFlags) load(o *loader.Options) {
	o.Lax = !f.strict
	o.SynCookies, o.SynRate = loader.SynCookies(f.synCookies), f.synRate
}
