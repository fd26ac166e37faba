//go:build linux

package main

// scenario is one kind of load, and a table of the report.
type scenario struct {
	name string
	load load
}

var scenarios = []scenario{
	{"keep-alive, 128 B, 64 connections", wrk{size: 128, connections: 64}},
	{"rewrite, 3 header rules and a rate limit, keep-alive, 128 B, 64 connections", wrk{size: 128, connections: 64, rules: true}},
	{"keep-alive, 128 B, 4 connections", wrk{size: 128, connections: 4}},
	{"keep-alive, 128 B, 512 connections", wrk{size: 128, connections: 512}},
	{"short connections, 128 B, 64 connections", wrk{size: 128, connections: 64, short: true}},
	{"keep-alive, 16 KiB, 64 connections", wrk{size: 16 << 10, connections: 64}},
	{"keep-alive, 1 MiB, 16 connections", wrk{size: 1 << 20, connections: 16}},
	{"TLS keep-alive, 128 B, 64 connections", wrk{size: 128, connections: 64, tls: true}},
	{"TLS keep-alive, 16 KiB, 64 connections", wrk{size: 16 << 10, connections: 64, tls: true}},
	{"TLS keep-alive, 1 MiB, 16 connections", wrk{size: 1 << 20, connections: 16, tls: true}},
	{"full TLS handshakes, ECDSA P-256", handshakes{host: benchHost}},
	{"full TLS handshakes, RSA 2048", handshakes{host: rsaHost}},
	{"resumed TLS handshakes", handshakes{host: benchHost, resume: true}},
	{"HTTP/2, 128 B, 16 connections of 16 streams", h2load{size: 128, connections: 16, streams: 16}},
	{"HTTP/2, 16 KiB, 16 connections of 16 streams", h2load{size: 16 << 10, connections: 16, streams: 16}},
	{"gRPC unary, 16 connections of 8 streams", h2load{connections: 16, streams: 8, grpc: true}},
}

// unit is what a scenario counts.
func (s scenario) unit() string {
	if _, ok := s.load.(handshakes); ok {
		return "handshakes"
	}
	return "requests"
}
