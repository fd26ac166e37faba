// Package owner says who wrote the addresses in an object's status, by its managedFields.
package owner

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

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

// Manager names the field manager that writes status for a class. Each class has its own,
// so that two installations do not take each other's writes for their own.
func Manager(class string) string {
	manager := "kerngate-" + class
	if len(manager) > maxManager {
		manager = fmt.Sprintf("%s-%x", manager[:maxManager-17], sha256.Sum256([]byte(class)))[:maxManager]
	}
	return manager
}

// statusFields is what managedFields say of a manager that has written the addresses of a
// status. The list is atomic: whoever writes one entry owns all of them.
var statusFields = metav1.NewFieldsV1(`{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`)

// Writers returns the entries of managedFields that own the addresses of the status,
// reduced to what ownership takes. It leaves its own result as it is.
func Writers(fields []metav1.ManagedFieldsEntry) (out []metav1.ManagedFieldsEntry) {
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

// Author is who wrote the addresses in an object's status.
type Author uint8

const (
	Others Author = iota // another manager, nobody, or unknown
	Legacy               // an agent of an older version, of whichever class
	Us
)

// Of returns who wrote the addresses. What somebody else owns too is theirs.
func Of(fields []metav1.ManagedFieldsEntry, manager string) Author {
	author := Others
	for i, w := range Writers(fields) {
		who := Others
		switch w.Manager {
		case manager:
			who = Us
		case legacyManager, legacyAgent:
			who = Legacy
		}
		if i == 0 || who < author {
			author = who
		}
	}
	return author
}
