package exchange

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// frame composes a WebSocket frame with a payload of n bytes.
func frame(opcode byte, masked bool, n int) []byte {
	b := []byte{opcode, 0}
	switch {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0x88}, n)...)
}

// TestFrames: only where a frame has ended may another be put in, however the bytes come.
func TestFrames(t *testing.T) {
	var stream []byte
	ends := map[int]bool{0: true}
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 5} {
		for _, masked := range []bool{false, true} {
			stream = append(stream, frame(0x82, masked, n)...)
			ends[len(stream)] = true
		}
	}
	var one frames
	for i := range stream {
		if one.between() != ends[i] {
			t.Fatalf("byte by byte, after %d: between is %t", i, one.between())
		}
		one.pass(stream[i : i+1])
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var f frames
		for at := 0; at < len(stream); {
			n := min(1+random.IntN(20000), len(stream)-at)
			f.pass(stream[at : at+n])
			if at += n; f.between() != ends[at] {
				t.Fatalf("in pieces, after %d: between is %t", at, f.between())
			}
		}
	}
}

// TestFramesEnd: nothing may follow a close frame, or what cannot be a frame.
func TestFramesEnd(t *testing.T) {
	for name, stream := range map[string][]byte{
		"close":             frame(0x88, true, 2),
		"length of 2^63":    {0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0},
		"close and more":    append(frame(0x88, false, 0), frame(0x82, false, 3)...),
		"after other frame": append(frame(0x81, false, 10), frame(0x88, false, 0)...),
	} {
		var f frames
		f.pass(stream)
		if f.between() {
			t.Errorf("%s: another frame may follow", name)
		}
	}
}
