//go:build linux

// Command client makes the loads of the benchmark that wrk and h2load do not: TLS handshakes
// without requests, and connections that stand idle. What it does is bounded by its flags; it
// writes what it found as one line of JSON.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

// options are the command line.
type options struct {
	mode        string
	address     string // of the proxy
	host        string // SNI and Host
	protocol    string // of idle connections
	connections int
	duration    time.Duration
	resume      bool
	ready       string
}

func main() {
	var o options
	flag.StringVar(&o.mode, "mode", "", "handshake, or idle")
	flag.StringVar(&o.address, "address", "", "address:port to connect to")
	flag.StringVar(&o.host, "host", "", "server name and Host")
	flag.StringVar(&o.protocol, "protocol", "http", "of idle connections: http, https or h2")
	flag.IntVar(&o.connections, "connections", 8, "at the same time")
	flag.DurationVar(&o.duration, "duration", time.Second, "how long to make handshakes, or to stay idle at most")
	flag.BoolVar(&o.resume, "resume", false, "resume the session of the connection before")
	flag.StringVar(&o.ready, "ready", "", "file to make when all idle connections are open")
	flag.Parse()
	var result any
	var err error
	switch o.mode {
	case "handshake":
		result, err = handshakes(o)
	case "idle":
		result, err = idle(o)
	default:
		err = fmt.Errorf("-mode %q: want handshake or idle", o.mode)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// config is what every proxy can speak, so that all do the same work: TLS 1.3, X25519. The
// certificates are of this run and signed by nobody known.
func (o *options) config(protocols ...string) *tls.Config {
	return &tls.Config{
		ServerName: o.host, InsecureSkipVerify: true, NextProtos: protocols,
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
	}
}
