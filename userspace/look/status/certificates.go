package status

import "time"

// Certificates by ID. There is no field for a key.
type Certificates struct {
	Certificates []Certificate `json:"certificates"`
}

// Certificate is the leaf of a chain that proxies hold.
type Certificate struct {
	ID          string    `json:"id"` // "namespace/name" of the Secret, or "file:" and a path
	Hosts       []string  `json:"hosts"`
	Names       []string  `json:"names"` // that it is for
	Type        string    `json:"type"`  // such as "ECDSA P-256"
	Issuer      string    `json:"issuer"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, hex
	Default     bool      `json:"default,omitempty"`
	Stapled     bool      `json:"stapled,omitempty"` // with an OCSP response
	UsedBy      []string  `json:"usedBy"`            // "namespace/name" of Ingresses, "Kind namespace/name" of other objects
}

// TLS is how connections that ask for a host are taken.
type TLS struct {
	Certificates []string    `json:"certificates,omitempty"` // ids; none: the default certificate
	Client       *ClientAuth `json:"client,omitempty"`       // nil: clients are not asked for a certificate
	Passthrough  string      `json:"passthrough,omitempty"`  // service that gets the connection still encrypted
	Kind         string      `json:"kind"`                   // of the object that asks for it, such as Ingress
	Source       string      `json:"source"`                 // "namespace/name" of that object
}

// Object returns the object that asks for it, such as "Ingress shop/main".
func (t *TLS) Object() string { return objectText(t.Kind, t.Source) }

// ClientAuth is what clients must show.
type ClientAuth struct {
	Mode      string `json:"mode"` // "required", "optional", "optional_no_ca"
	Authority string `json:"authority"`
	Depth     int    `json:"depth"`
	ErrorPage string `json:"errorPage,omitempty"`
	PassedOn  bool   `json:"passedOn,omitempty"`
}
