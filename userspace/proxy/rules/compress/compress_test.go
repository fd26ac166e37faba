package compress

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/text/compression"
)

var all = []compression.Encoding{compression.Gzip, compression.Brotli, compression.Zstd}

// decoder reads a coding by a library that did not write it where there is one.
func decoder(t *testing.T, e compression.Encoding, from io.Reader) io.Reader {
	t.Helper()
	switch e {
	case compression.Gzip:
		r, err := gzip.NewReader(from)
		if err != nil {
			t.Fatal(err)
		}
		return r
	case compression.Brotli:
		return brotli.NewReader(from)
	}
	r, err := zstd.NewReader(from, zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func body(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, n)
	for i := range out {
		out[i] = 'a' + byte(random.IntN(4))
	}
	return out
}

func TestStream(t *testing.T) {
	for _, e := range all {
		t.Run(e.String(), func(t *testing.T) {
			var p Pool
			for _, size := range []int{0, 1, 5000, 3 << 20} { // one encoder after the other, reused
				s, want := p.Open(e), body(size)
				var sent []byte
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 64<<10)
					if err := s.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					sent, rest = append(sent, s.Take()...), rest[n:]
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				sent = append(sent, s.Take()...)
				if s.In != uint64(size) || s.Out != uint64(len(sent)) {
					t.Errorf("%d bytes: counted %d and %d, sent %d", size, s.In, s.Out, len(sent))
				}
				got, err := io.ReadAll(decoder(t, e, bytes.NewReader(sent)))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
				}
				if size >= 5000 && len(sent) > size/2 {
					t.Errorf("%d bytes took %d", size, len(sent))
				}
				p.Put(s)
			}
			if p.open != 0 {
				t.Errorf("%d streams are open", p.open)
			}
		})
	}
}

func TestFlushGivesAllThatWasWritten(t *testing.T) {
	for _, e := range all {
		var p Pool
		s := p.Open(e)
		read, write := io.Pipe()
		go func() {
			for _, piece := range []string{"one", "two"} {
				if err := errors.Join(s.Write([]byte(piece)), s.Flush()); err != nil {
					t.Error(err)
				}
				write.Write(s.Take())
			}
			if err := s.Flush(); err != nil || len(s.Take()) > 0 {
				t.Errorf("%v: a second flush sends something, or %v", e, err)
			}
		}()
		from, got := decoder(t, e, read), make([]byte, 6)
		if _, err := io.ReadFull(from, got); err != nil || string(got) != "onetwo" {
			t.Errorf("%v: got %q, %v before the end", e, got, err)
		}
		read.Close()
	}
}

func TestPoolIsBounded(t *testing.T) {
	var p Pool
	var open []*Stream
	for range MaxStreams {
		open = append(open, p.Open(compression.Gzip))
	}
	if p.Open(compression.Brotli) != nil {
		t.Fatalf("%d streams are open", p.open)
	}
	for _, s := range open {
		p.Put(s)
	}
	if len(p.idle[compression.Gzip]) != maxIdle || p.Open(compression.Brotli) == nil {
		t.Errorf("%d are kept", len(p.idle[compression.Gzip]))
	}
}

func TestRules(t *testing.T) {
	none := &Rules{}
	for name, want := range map[string]bool{"text/html": true, "Text/HTML; charset=utf-8": true, "application/json ; x": true,
		"image/png": false, "text/event-stream": false, "": false, "application/grpc": false, string(bytes.Repeat([]byte("a"), 200)): false} {
		if none.Gains(none, []byte(name)) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	own, err := Compile(&feedpb.Compression{Types: []string{"text/*", "Image/BMP"}, MinBytes: 7})
	if err != nil || own.MinBytes(none) != 7 || none.MinBytes(none) != compression.DefaultMinBytes {
		t.Fatalf("got %+v, %v", own, err)
	}
	route, err := Compile(&feedpb.Compression{Encodings: []string{"br"}})
	if err != nil || route.MinBytes(own) != 7 || len(route.Encodings) != 1 || route.Encodings[0] != compression.Brotli {
		t.Fatalf("got %+v, %v", route, err)
	}
	for name, want := range map[string]bool{"text/x-log": true, "text/event-stream": false, "image/bmp": true, "application/json": false} {
		if route.Gains(own, []byte(name)) != want {
			t.Errorf("%q: %v, as the proxy's own rules have it", name, !want)
		}
	}
	if events, err := Compile(&feedpb.Compression{Types: []string{"text/event-stream"}}); err != nil || !events.Gains(own, []byte("text/event-stream")) {
		t.Errorf("a type that is named is left out: %v", err)
	}
	for _, bad := range []*feedpb.Compression{{Encodings: []string{"deflate"}}, {Types: []string{"html"}}} {
		if r, err := Compile(bad); err == nil {
			t.Errorf("%v: %+v, want an error", bad, r)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, e := range all {
		b.Run(e.String(), func(b *testing.B) {
			var p Pool
			piece := body(16 << 10)
			b.SetBytes(int64(len(piece)))
			b.ReportAllocs()
			var in, out uint64
			for b.Loop() {
				s := p.Open(e)
				if err := errors.Join(s.Write(piece), s.Close()); err != nil {
					b.Fatal(err)
				}
				s.Take()
				in, out = in+s.In, out+s.Out
				p.Put(s)
			}
			b.ReportMetric(100*float64(out)/float64(in), "%size")
		})
	}
}
