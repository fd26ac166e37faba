package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/prefixlist"
	"github.com/kerngate/kerngate/userspace/model"
)

// maxLineProblems is how many lines of a key are told to be wrong.
const maxLineProblems = 10

// defence reads the ConfigMap of --defence-configmap: lists of prefixes under "deny" and
// "allow", and under "block-cidrs", where users of ingress-nginx have what they deny.
func (t *translation) defence() (d model.Defence) {
	i := slices.IndexFunc(t.objects.ConfigMaps, func(c *corev1.ConfigMap) bool { return nameOf(c).String() == t.options.Defence })
	if t.options.Defence == "" || i < 0 {
		return d // not there (yet): nothing is declared
	}
	config := t.objects.ConfigMaps[i]
	ref := refOf("ConfigMap", config)
	var others []string
	for _, key := range slices.Sorted(maps.Keys(config.Data)) {
		switch key {
		case "deny", "block-cidrs":
			d.Deny = append(d.Deny, t.prefixes(ref, key, config.Data[key])...)
		case "allow":
			d.Allow = append(d.Allow, t.prefixes(ref, key, config.Data[key])...)
		case "source-packets-per-second", "source-packets-burst", "source-connections-per-second", "source-connections-burst":
		default:
			others = append(others, key)
		}
	}
	d.Packets = t.sourceLimit(ref, config.Data, "packets")
	d.Connections = t.sourceLimit(ref, config.Data, "connections")
	d.Deny, d.Allow = prefixlist.Sort(d.Deny), prefixlist.Sort(d.Allow)
	if len(others) > 0 {
		t.found.add(ref, model.Warning, "KeysUnknown", fmt.Sprintf("these keys are ignored; only deny, allow, block-cidrs and source-{packets,connections}-{per-second,burst} are known: %s", firstOf(others, maxLineProblems)))
	}
	if everybody := slices.IndexFunc(d.Deny, prefixlist.HoldsEverybody); everybody >= 0 && len(d.Allow) == 0 {
		t.found.add(ref, model.Warning, "EverybodyDenied", fmt.Sprintf("%s is denied and no prefix is allowed: no client can reach the ingress addresses", d.Deny[everybody]))
	}
	return d
}

// sourceLimit reads the two keys of what one source may send, named as the agent's flags are. If
// either cannot be read, the flags hold.
func (t *translation) sourceLimit(ref model.ObjectRef, data map[string]string, what string) (l model.SourceLimit) {
	valid := true
	read := func(key string, into *uint32) (set bool) {
		text, set := data[key]
		if !set {
			return false
		}
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
		if err != nil || n > state.MostPerSecond {
			t.found.add(ref, model.Refused, "LimitInvalid", fmt.Sprintf("data[%q]: %q is not a number from 0 to %d; the agent's flags apply", key, text, uint32(state.MostPerSecond)))
			valid = false
		}
		*into = uint32(n)
		return true
	}
	rate, burst := "source-"+what+"-per-second", "source-"+what+"-burst"
	l.Set = read(rate, &l.PerSecond)
	if read(burst, &l.Burst) && valid && l.Burst > 0 && l.PerSecond == 0 {
		t.found.add(ref, model.Refused, "LimitInvalid", fmt.Sprintf("data[%q]: has no effect without %s; the agent's flags apply", burst, rate))
		valid = false
	}
	if !valid {
		return model.SourceLimit{}
	}
	return l
}

// prefixes reads one key. Lines that cannot be read are told, and do not keep the others out.
func (t *translation) prefixes(ref model.ObjectRef, key, text string) []netip.Prefix {
	found, wrong, err := prefixlist.Read(strings.NewReader(text))
	if err != nil {
		t.found.add(ref, model.Refused, "PrefixInvalid", fmt.Sprintf("data[%q]: %v", key, err))
	}
	for i, w := range wrong {
		if i == maxLineProblems {
			t.found.add(ref, model.Refused, "PrefixInvalid", fmt.Sprintf("data[%q]: %d further prefixes are wrong", key, len(wrong)-i))
			break
		}
		t.found.add(ref, model.Refused, "PrefixInvalid", fmt.Sprintf("data[%q] %v", key, w))
	}
	return found
}

// firstOf names the first of a list.
func firstOf(all []string, n int) string {
	if len(all) <= n {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:n], ", "), len(all)-n)
}
