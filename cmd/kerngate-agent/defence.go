package main

import (
	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader"
)

// defenceFlags are the flags of what is dropped before it costs anything.
type defenceFlags struct {
	strict bool
}

func (f *defenceFlags) define(s *pflag.FlagSet) {
	s.BoolVar(&f.strict, "strict-packets", true, "drop packets to the ingress addresses that no honest host sends: sources that nobody has, headers that contradict themselves")
}

// load adds what the programs are loaded with.
func (f *defenceFlags) load(o *loader.Options) {
	o.Lax = !f.strict
}
