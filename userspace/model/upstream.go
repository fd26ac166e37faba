package model

// Protocol is what a pod speaks.
type Protocol uint8

const (
	HTTP1 Protocol = iota
	HTTP2          // with prior knowledge (h2c), or by ALPN over TLS; gRPC
)

// Upstream is how a route's pods are spoken to. The zero value is HTTP/1.1 in clear text.
type Upstream struct {
	Protocol    Protocol
	GRPC        bool         // the proxy's own errors are told as grpc-status to every client
	TLS         *UpstreamTLS // nil: clear text
	ProxyHeader uint8        // PROXY protocol version that begins each connection, 0: none
}

// UpstreamTLS is how the proxy speaks TLS to pods. Without Verify any certificate is taken,
// as pods' certificates seldom carry their addresses.
type UpstreamTLS struct {
	Verify      bool
	Authority   string // id of Model.Authorities; with Verify and not among them: no connection
	ServerName  string // SNI, and what the certificate must be for; "": the request's host
	Certificate string // id of Model.Certificates to show to the pod, "": none

	MinVersion, MaxVersion string   // "1.2" or "1.3"; "": those that crypto/tls thinks safe
	Suites                 []string // of TLS 1.2, by their IANA names; none: those of crypto/tls
}
