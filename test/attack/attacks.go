//go:build linux

package main

import (
	"strings"
)

// attack is one way to take from a proxy what others need, and a table of the report.
type attack struct {
	name, title string
	text        string // what attackers do, in the report
	from        from
	prepare     func(f *flooder) error // what each attacker does before that; nil: nothing
	flood       func(f *flooder)       // what each attacker does until its context ends

	// least is what must have happened for the attack to count, by counter, from all attackers.
	least map[string]int64
	only  string // the one product that has what is attacked; "": all
	http3 bool   // the honest client asks by HTTP/3, too
}

// from says where attackers are.
type from uint8

const (
	fromMany   from = iota // 48 addresses in as many networks, of three hosts
	fromSubnet             // 48 addresses of a /24, of three hosts
	fromOne                // one address
)

func (f from) String() string {
	return [...]string{
		fromMany:   "48 addresses in 48 networks",
		fromSubnet: "48 addresses of one /24",
		fromOne:    "one address",
	}[f]
}

var attacks = []*attack{
	{name: "slow-heads", title: "Slow heads (slowloris)", flood: (*flooder).slowHeads,
		text:  "6,000 connections, each with a request head that gets a line every 3 seconds and never ends.",
		least: map[string]int64{"connections": 1500, "lines": 500}},
	{name: "slow-heads-subnet", title: "Slow heads from one network", flood: (*flooder).slowHeads, from: fromSubnet,
		text:  "The same.",
		least: map[string]int64{"connections": 1500, "lines": 500}},
	{name: "slow-heads-one", title: "Slow heads from one address", flood: (*flooder).slowHeads, from: fromOne,
		text:  "The same.",
		least: map[string]int64{"connections": 1500, "lines": 500}},
	{name: "slow-bodies", title: "Slow request bodies", flood: (*flooder).slowBodies,
		text:  "3,000 requests with a body of 100,000 bytes, of which one comes each second.",
		least: map[string]int64{"connections": 1000, "bytes": 1000}},
	{name: "slow-readers", title: "Slow readers of large responses", flood: (*flooder).slowReaders,
		text:  "600 requests for 2 MiB, of which each client reads 200 bytes a second through a small receive buffer.",
		least: map[string]int64{"connections": 300, "bytes": 50_000}},
	{name: "idle", title: "Idle connections", flood: (*flooder).idle,
		text:  "6,000 connections that say nothing, half of them to the port for TLS.",
		least: map[string]int64{"connections": 1500}},
	{name: "idle-one", title: "Idle connections from one address", flood: (*flooder).idle, from: fromOne,
		text:  "The same.",
		least: map[string]int64{"connections": 1500}},
	{name: "hello", title: "TLS handshakes that never end", flood: (*flooder).hellos,
		text:  "6,000 connections; half send a part of a ClientHello, half send all of it and nothing more.",
		least: map[string]int64{"connections": 1500, "hellos": 500}},
	{name: "hello-one", title: "TLS handshakes that never end, from one address", flood: (*flooder).hellos, from: fromOne,
		text:  "The same.",
		least: map[string]int64{"connections": 1500, "hellos": 500}},
	{name: "rapid-reset", title: "HTTP/2 rapid reset", flood: (*flooder).rapidReset,
		text:  "60 connections that open and reset streams, up to 9,000 a second.",
		least: map[string]int64{"connections": 60, "streams": 5000}},
	{name: "continuation", title: "HTTP/2 CONTINUATION frames", flood: (*flooder).continuation,
		text:  "60 connections that send CONTINUATION frames of 1 KiB without an end, up to 9,000 a second.",
		least: map[string]int64{"connections": 60, "frames": 600}},
	{name: "control-frames", title: "HTTP/2 SETTINGS, PING and empty DATA frames", flood: (*flooder).controlFrames,
		text:  "60 connections that send frames of one of these kinds, up to 30,000 a second.",
		least: map[string]int64{"connections": 60, "frames": 6000}},
	{name: "hpack-bomb", title: "HPACK bombs", flood: (*flooder).hpackBomb,
		text:  "60 connections that send request heads of 16 KiB which decompress to some 45 MiB, up to 150 a second.",
		least: map[string]int64{"connections": 60, "heads": 60}},
	{name: "stalled-windows", title: "HTTP/2 windows that stay shut", flood: (*flooder).stalledWindows,
		text:  "60 connections with 100 requests each for 1 MiB, and a window of 0.",
		least: map[string]int64{"connections": 60, "streams": 3000}},
	{name: "large-heads", title: "Request heads that are too large", flood: (*flooder).largeHeads,
		text:  "Requests with a header of 70,000 bytes, up to 600 a second, each on a connection of its own.",
		least: map[string]int64{"connections": 300, "heads": 300}},
	{name: "expression", title: "Expensive regular expressions", flood: (*flooder).expression,
		text:  "Requests for a host of a tenant whose path is the expression `" + costlyPath + "`, with a path of 301 bytes, up to 300 a second.",
		least: map[string]int64{"requests": 200}},
	{name: "password", title: "Wrong passwords", flood: (*flooder).passwords,
		text:  "Requests with a wrong password for a host of a tenant whose passwords are hashed with bcrypt at cost 10, up to 150 a second.",
		least: map[string]int64{"requests": 100}},
	{name: "quic-initial", title: "QUIC Initial packets", prepare: (*flooder).makeInitials, flood: (*flooder).initials, only: kerngateName, http3: true,
		text:  "6,000 different Initial packets, sent again and again up to 6,000 a second and answered by nothing.",
		least: map[string]int64{"datagrams": 6000}},
}

// selected returns the attacks whose name contains a text.
func selected(text string) (list []*attack) {
	for _, a := range attacks {
		if strings.Contains(a.name, text) {
			list = append(list, a)
		}
	}
	return list
}

func attackOf(name string) *attack {
	for _, a := range attacks {
		if a.name == name {
			return a
		}
	}
	return nil
}
