package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/userspace/prefixlist"
)

// defenceFlags are the flags of what is dropped before it costs anything.
type defenceFlags struct {
	strict    bool
	configMap string
}

func (f *defenceFlags) define(s *pflag.FlagSet) {
	s.BoolVar(&f.strict, "strict-packets", true, "drop packets to the ingress addresses that no honest host sends: sources that nobody has, headers that contradict themselves")
	s.StringVar(&f.configMap, "defence-configmap", "", "NAMESPACE/NAME of a ConfigMap with source prefixes under deny (or block-cidrs) and exceptions under allow, one to a line")
}

// checkDefence checks what is dropped.
func (o *options) checkDefence() (err error) {
	f := o.flags
	if o.node.Deny, err = parsePrefixes("--deny", f.deny); err != nil {
		return err
	}
	if o.node.Allow, err = parsePrefixes("--allow", f.allow); err != nil {
		return err
	}
	o.kube.Defence, err = configMapName("--defence-configmap", f.defence.configMap)
	return err
}

// configMapName checks the value of a flag, NAMESPACE/NAME or nothing.
func configMapName(flag, value string) (string, error) {
	namespace, name, ok := strings.Cut(value, "/")
	if value != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return "", fmt.Errorf("%s %q: want NAMESPACE/NAME", flag, value)
	}
	return value, nil
}

// parsePrefixes reads the values of a flag.
func parsePrefixes(flag string, texts []string) (prefixes []netip.Prefix, err error) {
	for _, text := range texts {
		prefix, err := prefixlist.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// load adds what the programs are loaded with.
func (f *defenceFlags) load(o *loader.Options) {
	o.Lax = !f.strict
}
