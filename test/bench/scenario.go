//go:build linux

package main

// scenario is one kind of load, and a table of the report.
type scenario struct {
	name string
	load load
	// plain, if any, is the same load without what the scenario is about. It runs in the same
	// rounds, and the table says what a request costs beside one of it.
	plain load
}

var scenarios = []scenario{
	{name: "keep-alive, 128 B, 64 connections", load: wrk{size: 128, connections: 64}},
	{name: "rewrite, 3 header rules and a rate limit, keep-alive, 128 B, 64 connections",
		load: wrk{size: 128, connections: 64, rules: true}, plain: wrk{size: 128, connections: 64}},
	{name: "keep-alive, 128 B, 4 connections", load: wrk{size: 128, connections: 4}},
	{name: "keep-alive, 128 B, 512 connections", load: wrk{size: 128, connections: 512}},
	{name: "short connections, 128 B, 64 connections", load: wrk{size: 128, connections: 64, short: true}},
	{name: "keep-alive, 16 KiB, 64 connections", load: wrk{size: 16 << 10, connections: 64}},
	{name: "keep-alive, 1 MiB, 16 connections", load: wrk{size: 1 << 20, connections: 16}},
	{name: "TLS keep-alive, 128 B, 64 connections", load: wrk{size: 128, connections: 64, tls: true}},
	{name: "TLS keep-alive, 16 KiB, 64 connections", load: wrk{size: 16 << 10, connections: 64, tls: true}},
	{name: "TLS keep-alive, 1 MiB, 16 connections", load: wrk{size: 1 << 20, connections: 16, tls: true}},
	{name: "full TLS handshakes, ECDSA P-256", load: handshakes{host: benchHost}},
	{name: "full TLS handshakes, RSA 2048", load: handshakes{host: rsaHost}},
	{name: "resumed TLS handshakes", load: handshakes{host: benchHost, resume: true}},
	{name: "HTTP/2, 128 B, 16 connections of 16 streams", load: h2load{size: 128, connections: 16, streams: 16}},
	{name: "HTTP/2, 16 KiB, 16 connections of 16 streams", load: h2load{size: 16 << 10, connections: 16, streams: 16}},
	{name: "gRPC unary, 16 connections of 8 streams", load: h2load{connections: 16, streams: 8, grpc: true}},
}

// unit is what a scenario counts.
func (s scenario) unit() string {
	if _, ok := s.load.(handshakes); ok {
		return "handshakes"
	}
	return "requests"
}
