package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/prefixlist"
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
		default:
			others = append(others, key)
		}
	}
	d.Deny, d.Allow = prefixlist.Sort(d.Deny), prefixlist.Sort(d.Allow)
	if len(others) > 0 {
		t.found.add(ref, model.Warning, "KeysUnknown", fmt.Sprintf("not read, for only deny, allow and block-cidrs are: %s", firstOf(others, maxLineProblems)))
	}
	if everybody := slices.IndexFunc(d.Deny, prefixlist.HoldsEverybody); everybody >= 0 && len(d.Allow) == 0 {
		t.found.add(ref, model.Warning, "EverybodyDenied", fmt.Sprintf("%s is denied and nobody is allowed: nothing reaches the ingress addresses", d.Deny[everybody]))
	}
	return d
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
