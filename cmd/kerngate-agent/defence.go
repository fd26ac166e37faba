package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/prefixlist"
)

// defenceFlags are the flags of what is dropped before it costs anything.
type defenceFlags struct {
	strict               bool
	closeAddresses       bool
	configMap            string
	packets, connections state.Limit
	prefixV4, prefixV6   uint8
	synCookies           string
	synRate              int
}

func (f *defenceFlags) define(s *pflag.FlagSet) {
	s.BoolVar(&f.strict, "strict-packets", true, "drop packets to the ingress addresses that no valid host sends: impossible source addresses, contradictory headers")
	s.BoolVar(&f.closeAddresses, "close-addresses", true, "refuse connections and datagrams to unpublished ports of the ingress addresses, so that programs of this node that listen on all addresses cannot be reached there. Ingress addresses that are assigned to an interface of this node are exempt")
	s.StringVar(&f.synCookies, "syn-cookies", string(loader.SynCookiesAuto), "when to respond to SYNs for the proxy with SYN cookies, before they use any memory: auto (at a high rate of SYNs, if the accept queue is full), always (whenever the accept queue is full) or off (leave it to the kernel)")
	s.IntVar(&f.synRate, "syn-rate", 0, "SYNs per second on one CPU above which --syn-cookies=auto checks the accept queue; 0: the default (2000)")
	s.Uint32Var(&f.packets.PerSecond, "source-packets-per-second", 0, "packets per second that one source may send to the ingress addresses; 0: no limit. Sources in --allow are exempt")
	s.Uint32Var(&f.packets.Burst, "source-packets-burst", 0, "packets that one source may send at once; 0: as many as in one second")
	s.Uint32Var(&f.connections.PerSecond, "source-connections-per-second", 0, "new connections per second (TCP, QUIC, and flows of UDP services) that one source may open to the ingress addresses; 0: no limit. Sources in --allow are exempt")
	s.Uint32Var(&f.connections.Burst, "source-connections-burst", 0, "connections that one source may open at once; 0: as many as in one second")
	s.Uint8Var(&f.prefixV4, "source-prefix-v4", 32, "length of the IPv4 prefix whose addresses count as one source, in bits")
	s.Uint8Var(&f.prefixV6, "source-prefix-v6", 64, "length of the IPv6 prefix whose addresses count as one source, in bits")
	s.StringVar(&f.configMap, "defence-configmap", "", "ConfigMap with source prefixes, one per line, under the keys deny (or block-cidrs) and allow, and with limits under the keys source-packets-per-second and so on, as NAMESPACE/NAME; empty: none")
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
	if o.node.Defence, err = f.defence.limits(); err != nil {
		return err
	}
	if o.kube.Defence, err = configMapName("--defence-configmap", f.defence.configMap); err != nil {
		return err
	}
	limits := o.node.Defence.Packets.PerSecond > 0 || o.node.Defence.Connections.PerSecond > 0
	if len(f.interfaces) == 0 && (len(f.deny) > 0 || limits || o.kube.Defence != "") {
		return errors.New("--deny, --source-packets-per-second, --source-connections-per-second and --defence-configmap need an --interface, where packets are judged")
	}
	return nil
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
	o.OpenAddresses = !f.closeAddresses
	o.SynCookies, o.SynRate = loader.SynCookies(f.synCookies), f.synRate
}

// limits returns what one source may send.
func (f *defenceFlags) limits() (state.Defence, error) {
	d := state.Defence{Packets: f.packets, Connections: f.connections, PrefixV4: f.prefixV4, PrefixV6: f.prefixV6}
	for flag, limit := range map[string]state.Limit{"packets": d.Packets, "connections": d.Connections} {
		if limit.PerSecond > state.MostPerSecond {
			return d, fmt.Errorf("--source-%s-per-second %d: at most %d", flag, limit.PerSecond, state.MostPerSecond)
		}
		if limit.Burst > 0 && limit.PerSecond == 0 {
			return d, fmt.Errorf("--source-%s-burst without --source-%s-per-second", flag, flag)
		}
	}
	if f.prefixV4 < 1 || f.prefixV4 > 32 {
		return d, fmt.Errorf("--source-prefix-v4 %d: want 1 to 32", f.prefixV4)
	}
	if f.prefixV6 < 1 || f.prefixV6 > 128 {
		return d, fmt.Errorf("--source-prefix-v6 %d: want 1 to 128", f.prefixV6)
	}
	return d, nil
}
