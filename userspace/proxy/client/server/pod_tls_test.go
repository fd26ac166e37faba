package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// negative returns a self-signed certificate whose serial number is negative, which
// x509.CreateCertificate refuses to make.
func negative(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial := []byte{0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48}
	template := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), DNSNames: []string{"pod.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	c.TBS.FullBytes[bytes.Index(c.TBS.FullBytes, serial)] |= 0x80
	sum := sha256.Sum256(c.TBS.FullBytes)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	if der, err = asn1.Marshal(c); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestNegativeSerial: a pod whose certificate has a negative serial number is reached where
// the route does not ask to verify it.
func TestNegativeSerial(t *testing.T) {
	backend := httptest.NewUnstartedServer(http.HandlerFunc(emptied))
	backend.TLS = &tls.Config{Certificates: []tls.Certificate{negative(t)}}
	backend.StartTLS()
	t.Cleanup(backend.Close)
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:443", Path: "/", Backends: []string{backend.Listener.Addr().String()},
		Upstream: &feedpb.Upstream{Tls: &feedpb.UpstreamTLS{}}}}, nil)
	has(t, shop(t, p, "GET /"), "200 OK")
}

// TestPodTLSLogged: why a handshake with a pod failed is logged once, with the names that it
// takes to find the pod.
func TestPodTLSLogged(t *testing.T) {
	address := tlsPod(t)
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:443", Path: "/", Backends: []string{address},
		Upstream: &feedpb.Upstream{Tls: &feedpb.UpstreamTLS{MaxVersion: "1.2", Suites: []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}}}}}, nil)
	for range 5 {
		has(t, shop(t, p, "GET /"), "502 ", "upstream_tls", "(alert_by_the_pod)")
	}
	said := p.Said.String()
	has(t, said, `"level":"warn"`, `"service":"default/web:443"`, `"object":"Ingress default/test"`, `"pod":"`+address+`"`, `"reason":"alert_by_the_pod"`, `"error":"remote error: tls: handshake failure"`)
	if n := bytes.Count([]byte(said), []byte("\n")); n != 1 {
		t.Errorf("%d lines for 5 failures in a row:\n%s", n, said)
	}
}
