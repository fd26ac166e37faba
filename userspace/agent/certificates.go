package agent

import (
	"slices"
)

// describeCertificate returns what is public of a certificate of the model, "" if it has none of that id.
func (a *Agent) describeCertificate(id string) string {
	for _, c := range a.model.Certificates {
		if c.ID == id {
			return c.String()
		}
	}
	return ""
}

var _ = slices.Sort[[]string]
