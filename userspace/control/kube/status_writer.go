package kube

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Agents of older versions wrote the status of every class as "kerngate"; before they
// named themselves, the API server called them by their user agent.
const (
	legacyManager = "kerngate"
	legacyAgent   = "kerngate-agent"
)

// maxManager is the length in bytes of the longest field manager that the API server takes.
const maxManager = 128

// managerOf names the field manager that writes status for a class. Each class has its own,
// so that two installations do not take each other's writes for their own.
func managerOf(class string) string {
	manager := "kerngate-" + class
	if len(manager) > maxManager {
		manager = fmt.Sprintf("%s-%x", manager[:maxManager-17], sha256.Sum256([]byte(class)))[:maxManager]
	}
	return manager
}

// statusFields is what managedFields say of a manager that has written the addresses of a
// status. The list is atomic: whoever writes one entry owns all of them.
var statusFields = metav1.NewFieldsV1(`{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`)

// statusWriters returns the entries of managedFields that own the addresses of the status,
// reduced to what ownership takes. It leaves its own result as it is.
func statusWriters(fields []metav1.ManagedFieldsEntry) (out []metav1.ManagedFieldsEntry) {
	for _, f := range fields {
		if f.Subresource != "status" || f.FieldsV1 == nil {
			continue
		}
		var owned struct {
			Status struct {
				LoadBalancer struct {
					Ingress json.RawMessage `json:"f:ingress"`
				} `json:"f:loadBalancer"`
			} `json:"f:status"`
		}
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &owned) == nil && owned.Status.LoadBalancer.Ingress != nil {
			out = append(out, metav1.ManagedFieldsEntry{Manager: f.Manager, Subresource: "status", FieldsV1: statusFields})
		}
	}
	return out
}

// authorship says who wrote the addresses in an object's status.
type authorship uint8

const (
	byOthers authorship = iota // or by nobody, or nobody knows
	byLegacy                   // an agent of an older version, of whichever class
	byUs
)

// writtenBy returns who wrote the addresses. What somebody else owns too is theirs.
func writtenBy(fields []metav1.ManagedFieldsEntry, manager string) authorship {
	author := byOthers
	for i, w := range statusWriters(fields) {
		who := byOthers
		switch w.Manager {
		case manager:
			who = byUs
		case legacyManager, legacyAgent:
			who = byLegacy
		}
		if i == 0 || who < author {
			author = who
		}
	}
	return author
}

// nextStatus returns the addresses that an Ingress's status is to have, and whether that
// is another than it has.
//
// A served Ingress has ours. Where somebody else wrote the list and ours are in it, the list
// stays as it is; where it is replaced, an entry of our address keeps what others have added
// to it (hostname, ports). An Ingress that is not served loses only what we wrote: the
// same address may be another controller's, behind one load balancer or after a move.
func nextStatus(have, ours []networkingv1.IngressLoadBalancerIngress, author authorship, served, othersClass bool) (want []networkingv1.IngressLoadBalancerIngress, changed bool) {
	if !served {
		mine := author == byUs || author == byLegacy && !othersClass && len(ours) > 0 && sameIPs(have, ours)
		if mine && len(have) > 0 {
			return nil, true
		}
		return have, false
	}
	byIP := make(map[string]networkingv1.IngressLoadBalancerIngress, len(have))
	for _, entry := range have {
		byIP[entry.IP] = entry
	}
	all := true
	for _, entry := range ours {
		there, ok := byIP[entry.IP]
		if !ok {
			all = false
			there = entry
		}
		want = append(want, there)
	}
	if all && (len(have) == len(ours) || author == byOthers) {
		return have, false
	}
	return want, true
}

// sameIPs reports whether both lists hold the same IPs in the same order, and the first
// nothing else.
func sameIPs(have, ours []networkingv1.IngressLoadBalancerIngress) bool {
	if len(have) != len(ours) {
		return false
	}
	for i := range have {
		if have[i].IP != ours[i].IP || have[i].Hostname != "" {
			return false
		}
	}
	return true
}
