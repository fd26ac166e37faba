package model

// TLS is how connections that ask for a host by SNI are taken.
type TLS struct {
	// Certificates are ids of Model.Certificates: the first that the client supports is
	// used, so that ECDSA and RSA can stand side by side. None: the default certificate.
	Certificates []string
	// Client says whether clients must show a certificate; nil: they are not asked.
	Client *ClientAuth
	// Passthrough, if not zero, gets the connection as it is, still encrypted; nothing
	// else here applies then.
	Passthrough ServiceKey
	Suites      []string  // of TLS 1.2, by their IANA names; none: those of the proxy's settings
	Source      ObjectRef // the Ingress that asked for it
}

// ClientMode is what is asked of a client.
type ClientMode uint8

const (
	ClientRequired     ClientMode = iota // no valid certificate: 400 or, if ErrorPage is set, a redirect
	ClientOptional                       // none is fine, an invalid one is refused
	ClientOptionalNoCA                   // any is accepted; the verdict is passed to the pod
)

// ClientAuth is how clients of a host authenticate by certificate.
type ClientAuth struct {
	Mode      ClientMode
	Authority string // id of Model.Authorities. Not among them: every client is refused
	Depth     int    // certificates between the client's and the authority's at most, plus one
	ErrorPage string // URL to send clients without a valid certificate to, "": 400
	// Subject is an RE2 expression that must match within the subject's distinguished name
	// (RFC 2253); "": any.
	Subject   string
	PassChain bool // pass the client's certificate on to the pod (ssl-client-cert, URL-encoded PEM)
}

// Certificate is a chain with its key.
type Certificate struct {
	ID    string // "namespace/name" of the Secret, or "file:" and a path
	Chain []byte // PEM, leaf first
	Key   Key    // PEM
	OCSP  []byte // a response to staple, DER, or nil
}

// Authority is a set of certificates that sign others.
type Authority struct {
	ID           string // "namespace/name" of the Secret
	Certificates []byte // PEM
	Revoked      []byte // certificate revocation list, PEM, or nil
}

// Key is a private key. However it is printed, it does not show.
type Key []byte

// String hides the key, like the methods below.
func (Key) String() string { return "(private key)" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "(private key)" }

// MarshalText hides the key from encoders.
func (Key) MarshalText() ([]byte, error) { return []byte("(private key)"), nil }
