// Package answer is what a pod of the lab says about a request that reached it.
package answer

import "net/http"

// Answer is the JSON body of a pod's answer, unless the request asked for another body.
type Answer struct {
	Pod     string `json:"pod"`
	Service string `json:"service"`

	Method           string      `json:"method"`
	Host             string      `json:"host"`
	URI              string      `json:"uri"` // as in the request line
	Path             string      `json:"path"`
	Proto            string      `json:"proto"`
	Headers          http.Header `json:"headers"`
	Remote           string      `json:"remote"` // address and port of who connected to the pod
	TransferEncoding []string    `json:"transferEncoding,omitempty"`

	BodyBytes  int64       `json:"bodyBytes"`
	BodySHA256 string      `json:"bodySHA256"` // hexadecimal
	Trailers   http.Header `json:"trailers,omitempty"`
}
