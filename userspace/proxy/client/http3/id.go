package http3

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/quic-go/quic-go"
)

// idLen is the length of connection ids, in bytes.
const idLen = 12

// IDs makes connection ids that lead a client's packets to a worker, whatever address they
// come from and whichever proxy serves new connections: kg_quic (bpf/quic.bpf.c) reads them.
//
//	id[0]      worker id, as in kg_workers
//	id[1..8]   random
//	id[9..11]  check of the bytes before, big endian
type IDs struct{ Worker uint8 }

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (g IDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [idLen]byte
	id[0] = g.Worker
	rand.Read(id[1:9]) // never fails
	check := check(id[0], binary.LittleEndian.Uint64(id[1:]))
	id[9], id[10], id[11] = byte(check>>16), byte(check>>8), byte(check)
	return quic.ConnectionIDFromBytes(id[:]), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (IDs) ConnectionIDLen() int { return idLen }

func check(worker uint8, random uint64) uint32 {
	x := random ^ (uint64(worker)+1)*0x9e3779b97f4a7c15
	x *= 0xff51afd7ed558ccd
	return uint32(x >> 40)
}
