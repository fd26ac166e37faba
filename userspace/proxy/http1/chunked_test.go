package http1

import (
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/messagetest"
)

// decode feeds input in pieces of at most step bytes. It returns the data, the
// number of bytes consumed, whether the end was reached, and the error.
func decode(c *Chunked, input string, step int) (data string, n int, done bool, err error) {
	var b strings.Builder
	for n < len(input) {
		piece := []byte(input[n:min(n+step, len(input))])
		for len(piece) > 0 {
			part, used, end, err := c.Decode(piece)
			if err != nil {
				return b.String(), n, false, err
			}
			b.Write(part)
			n += used
			if end {
				return b.String(), n, true, nil
			}
			if len(part) == 0 && used != len(piece) {
				panic("bytes left without data and without the end")
			}
			piece = piece[used:]
		}
	}
	return b.String(), n, false, nil
}

func TestChunkedAccepted(t *testing.T) {
	for _, c := range []struct{ name, input, data, trailers string }{
		{"empty", "0\r\n\r\n", "", ""},
		{"one", "5\r\nhello\r\n0\r\n\r\n", "hello", ""},
		{"several", "1\r\na\r\nA\r\n0123456789\r\n000a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "a0123456789\r\n\r\n\r\n\r\n\r\n", ""},
		{"16 digits", "0000000000000001\r\na\r\n0000000000000000\r\n\r\n", "a", ""},
		{"extensions", "1;a\r\nx\r\n1;a=b;c\r\ny\r\n1;a=\"b; \\\"\tc\"\r\nz\r\n0;last\r\n\r\n", "xyz", ""},
		{"extension with obs-text", "1;a=\"\xff\"\r\nx\r\n0\r\n\r\n", "x", ""},
		{"trailers", "0\r\nChecksum: abc\r\nX-Empty:\r\n\r\n", "", "Checksum=abc;X-Empty=;"},
		{"forbidden trailers", "0\r\nHost: a\r\nAuthorization: b\r\nTrailer: x\r\n" +
			"Set-Cookie: c\r\nX-Forwarded-For: d\r\nX_Forwarded_For: d\r\nContent_Length: 5\r\ngrpc-status: 0\r\n\r\n", "", "grpc-status=0;"},
	} {
		t.Run(c.name, func(t *testing.T) {
			input := c.input + "next"
			var d Chunked
			for step := len(input); step > 0; step-- {
				d.Reset()
				data, n, done, err := decode(&d, input, step)
				if err != nil || !done || !d.Done() || n != len(c.input) || data != c.data {
					t.Fatalf("in steps of %d: data %q, n=%d of %d, done=%t, error %v", step, data, n, len(c.input), done, err)
				}
				var trailers strings.Builder
				for _, f := range d.Trailers() {
					trailers.WriteString(string(f.Name) + "=" + string(f.Value) + ";")
				}
				if trailers.String() != c.trailers {
					t.Fatalf("in steps of %d: trailers %q, want %q", step, trailers.String(), c.trailers)
				}
				// Every prefix is unfinished.
				d.Reset()
				if _, n, done, err := decode(&d, c.input[:len(c.input)-1], step); done || err != nil || n != len(c.input)-1 {
					t.Fatalf("all but the last byte: n=%d, done=%t, error %v", n, done, err)
				}
			}
		})
	}
}

func TestChunkedRefused(t *testing.T) {
	for _, c := range []struct {
		name, input string
		want        *message.Error
	}{
		{"no size", "\r\n", message.ErrBadChunkSize},
		{"extension without size", ";a\r\n", message.ErrBadChunkSize},
		{"not hexadecimal", "g\r\n", message.ErrBadChunkSize},
		{"0x", "0x5\r\nhello\r\n", message.ErrBadChunkSize},
		{"plus", "+5\r\nhello\r\n", message.ErrBadChunkSize},
		{"minus", "-5\r\nhello\r\n", message.ErrBadChunkSize},
		{"underscore", "1_0\r\n", message.ErrBadChunkSize},
		{"leading space", " 5\r\nhello\r\n", message.ErrBadChunkSize},
		{"trailing space", "5 \r\nhello\r\n", message.ErrBadChunkSize},
		{"trailing tab", "5\t\r\nhello\r\n", message.ErrBadChunkSize},
		{"space before extension", "5 ;a\r\nhello\r\n", message.ErrBadChunkSize},
		{"point", "5.0\r\nhello\r\n", message.ErrBadChunkSize},
		{"NUL", "5\x00\r\nhello\r\n", message.ErrBadChunkSize},
		{"17 digits", "00000000000000005\r\nhello\r\n", message.ErrBadChunkSize},
		{"2^63", "8000000000000000\r\n", message.ErrBadChunkSize},
		{"2^64", "10000000000000000\r\n", message.ErrBadChunkSize},
		{"bare LF behind size", "5\nhello\r\n", message.ErrBareLF},
		{"bare LF behind last size", "0\n\r\n", message.ErrBareLF},
		{"bare CR behind size", "5\rhello\r\n", message.ErrBareCR},
		{"bare LF behind extension", "5;a\nhello\r\n", message.ErrBareLF},
		{"bare LF in a quoted value", "5;a=\"\nhello\r\n", message.ErrBareLF},
		{"bare CR behind extension", "5;a\rhello\r\n", message.ErrBareCR},
		{"CR in a quoted value", "5;a=\"\r\nhello\r\n", message.ErrBadChunkExtension},
		{"NUL in a quoted value", "5;a=\"\x00\"\r\nhello\r\n", message.ErrBadChunkExtension},
		{"DEL escaped", "5;a=\"\\\x7f\"\r\nhello\r\n", message.ErrBadChunkExtension},
		{"empty extension", "5;\r\nhello\r\n", message.ErrBadChunkExtension},
		{"empty value", "5;a=\r\nhello\r\n", message.ErrBadChunkExtension},
		{"space in extension", "5; a\r\nhello\r\n", message.ErrBadChunkExtension},
		{"text behind quotes", "5;a=\"b\"c\r\nhello\r\n", message.ErrBadChunkExtension},
		{"text behind value", "5;a=b c\r\nhello\r\n", message.ErrBadChunkExtension},
		{"long extension", "5;" + strings.Repeat("a", maxChunkExtensions+1) + "\r\n", message.ErrChunkExtensionLimit},
		{"many extensions", strings.Repeat("1;"+strings.Repeat("a", 99)+"\r\nx\r\n", maxChunkExtensions/100+1), message.ErrChunkExtensionLimit},
		{"data too long", "5\r\nhello!\r\n", message.ErrBadChunkEnd},
		{"data too short", "5\r\nhell\r\n0\r\n\r\n", message.ErrBadChunkEnd},
		{"bare LF behind data", "5\r\nhello\n0\r\n\r\n", message.ErrBadChunkEnd},
		{"bare CR behind data", "5\r\nhello\r0\r\n\r\n", message.ErrBadChunkEnd},
		{"bare LF at the end", "0\r\n\n", message.ErrBareLF},
		{"CR, then text at the end", "0\r\n\rX\n", message.ErrBareCR},
		{"trailer without colon", "0\r\nabc\r\n\r\n", message.ErrBadFieldName},
		{"trailer with space before colon", "0\r\na : b\r\n\r\n", message.ErrBadFieldName},
		{"trailer folded", "0\r\na: b\r\n c\r\n\r\n", message.ErrObsFold},
		{"trailer with bare LF", "0\r\na: b\n\r\n", message.ErrBareLF},
		{"trailer with bare CR", "0\r\na: b\rc\r\n\r\n", message.ErrBareCR},
		{"trailer with NUL", "0\r\na: \x00\r\n\r\n", message.ErrBadFieldValue},
		{"next request as trailer", "0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", message.ErrBadFieldName},
		{"length as trailer", "0\r\na: b\r\nContent-Length: 5\r\n\r\n", message.ErrFramingTrailer},
		{"encoding as trailer", "0\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrFramingTrailer},
		{"long trailer", "0\r\na: " + strings.Repeat("b", message.DefaultLimits.Head) + "\r\n\r\n", message.ErrTrailerLimit},
		{"many trailers", "0\r\n" + strings.Repeat("a: b\r\n", message.DefaultLimits.Fields+1) + "\r\n", message.ErrTrailerLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{len(c.input), 1, 2, 3, 7} {
				var d Chunked
				if _, _, _, err := decode(&d, c.input, step); messagetest.Fault(t, err) != c.want {
					t.Fatalf("in steps of %d: error %v, want %v", step, err, c.want)
				}
			}
		})
	}
}

func TestChunkedLargestSize(t *testing.T) {
	var d Chunked
	data, n, done, err := d.Decode([]byte("7fffffffffffffff\r\nabc"))
	if err != nil || done || n != 21 || string(data) != "abc" {
		t.Fatalf("data %q, n=%d, done=%t, error %v", data, n, done, err)
	}
}

// TestChunkedViews proves that data is not copied.
func TestChunkedViews(t *testing.T) {
	buf := []byte("5\r\nhello\r\n")
	var d Chunked
	data, _, _, err := d.Decode(buf)
	if err != nil || &data[0] != &buf[3] {
		t.Fatalf("data %q is not a view of the input, error %v", data, err)
	}
}

func TestChunkedAllocates(t *testing.T) {
	body := []byte("5;a=b\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n")
	var d Chunked
	var dst []byte
	if n := testing.AllocsPerRun(100, func() {
		d.Reset()
		dst = dst[:0]
		for n := 0; !d.Done(); {
			data, used, _, err := d.Decode(body[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += used
			if len(data) > 0 {
				dst = AppendChunkHeader(dst, len(data))
				dst = append(dst, data...)
				dst = append(dst, ChunkEnd...)
			}
		}
		dst = AppendLastChunk(dst, d.Trailers())
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if want := "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"; string(dst) != want {
		t.Errorf("written anew: %q, want %q", dst, want)
	}
}

// TestChunkedFaultLasts: after a fault nothing of the body is taken for its end, and nothing
// behind it for another request.
func TestChunkedFaultLasts(t *testing.T) {
	for _, body := range []string{"zz\r\n", "1\r\naXX", "0\r\nContent-Length: 1\r\n\r\n", "0\r\nA: " + strings.Repeat("a", 100<<10)} {
		var c Chunked
		var first error
		for rest := []byte(body + "GET / HTTP/1.1\r\n"); first == nil; {
			_, n, done, err := c.Decode(rest)
			if first = err; done {
				t.Fatalf("%.20q is taken for a whole body", body)
			}
			rest = rest[n:]
		}
		for range 3 {
			if _, n, done, err := c.Decode([]byte("GET / HTTP/1.1\r\n")); err != first || n != 0 || done {
				t.Errorf("%.20q: after %v came %d, %v, %v", body, first, n, done, err)
			}
		}
		if c.Reset(); c.Done() {
			t.Error("done after Reset")
		}
	}
}
