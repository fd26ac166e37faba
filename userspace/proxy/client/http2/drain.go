package http2

import (
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// A connection is drained in two steps (RFC 9113 section 6.8): first the client is told to
// open no more streams, by a GOAWAY that excludes none, and a PING behind it. When the PING
// comes back, everything that the client had sent before it knew has arrived, and a second
// GOAWAY names the last stream that will be answered. No request falls between.

type drainStep uint8

const (
	notDraining drainStep = iota
	drainAsked            // the first GOAWAY and the PING are out
	drainTold             // the second one too: new streams are refused
)

type drainState struct {
	step   drainStep
	at     int64  // loop time of the first step
	idleAt int64  // loop time since which no exchange runs, 0: one does
	lastID uint32 // highest stream that is answered, from drainTold on
	linger int    // bytes that are still read and dropped, while ending
	shut   bool   // our side of the stream of bytes has ended
}

// drainWait is how long the answer to the PING is waited for.
const drainWait = time.Second

const maxStreamID = 1<<31 - 1

// drainPing is that PING's content.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// Drain asks the client to go elsewhere; what it has asked for before is still answered.
func (c *Conn) Drain() {
	if c.state != open || c.drain.step != notDraining {
		return
	}
	c.drain.step, c.drain.at = drainAsked, c.server.worker.Loop.Now()
	c.queueGoAway(maxStreamID, xhttp2.ErrCodeNo, "")
	c.queuePing(drainPing)
	c.arm()
}

// drainLast is the second step.
func (c *Conn) drainLast() {
	c.drain.step, c.drain.lastID = drainTold, c.lastID
	c.queueGoAway(c.lastID, xhttp2.ErrCodeNo, "")
	c.endIfDrained()
}

// endIfDrained ends a drained connection on which nothing runs any more.
func (c *Conn) endIfDrained() {
	if c.drain.step == drainTold && c.quiet() && c.state == open {
		c.finish()
	}
}

// CloseIdle ends the connection properly if no request is under way on it.
func (c *Conn) CloseIdle() {
	if c.state == open && c.quiet() {
		c.drain.step, c.drain.lastID = drainTold, c.lastID
		c.queueGoAway(c.lastID, xhttp2.ErrCodeNo, "")
		c.finish()
	}
}
