package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/io/proxyproto"
)

// check asks one pod once, over a connection of its own.
type check struct {
	*config.HealthCheck
	address   netip.AddrPort
	transport *config.Transport // nil: clear text
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// userAgent lets pods tell checks from requests.
const userAgent = "kerngate-health"

// run returns nil if the pod is well.
func (c check) run(ctx context.Context) error {
	if c.Port != 0 {
		c.address = netip.AddrPortFrom(c.address.Addr(), c.Port)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	switch c.Kind {
	case config.CheckTCP:
		conn, err := c.dial(ctx)
		if err == nil {
			conn.Close()
		}
		return err
	case config.CheckGRPC:
		return c.grpc(ctx)
	default:
		return c.http(ctx)
	}
}

// dial connects, with a PROXY header and TLS if the pod is spoken to by these.
func (c check) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", c.address.String())
	if err != nil || c.transport == nil {
		return conn, err
	}
	if until, ok := ctx.Deadline(); ok {
		conn.SetDeadline(until)
	}
	if v := c.transport.ProxyHeader; v != 0 {
		if _, err := conn.Write(proxyproto.Append(nil, proxyproto.Header{Version: v})); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if !c.transport.TLS {
		return conn, nil
	}
	if c.transport.Missing != "" {
		conn.Close()
		return nil, fmt.Errorf("%s, which TLS to pods needs, is not there", c.transport.Missing)
	}
	settings := c.transport.Config.Clone()
	settings.ServerName = c.transport.ServerName
	if settings.ServerName == "" {
		settings.ServerName = c.Host
	}
	if settings.ServerName == "" { // what the certificate is for cannot be known
		settings.InsecureSkipVerify = true
	}
	if c.Kind == config.CheckGRPC {
		settings.NextProtos = []string{"h2"}
	}
	secure := tls.Client(conn, settings)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// do sends a request over HTTP/1.1 or HTTP/2.
func (c check) do(r *http.Request, http2 bool) (*http.Response, func(), error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2) // our connections hide their TLS from net/http
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }
	t := &http.Transport{
		DialContext: dial, DisableCompression: true, DisableKeepAlives: !http2, Protocols: protocols,
		MaxResponseHeaderBytes: maxAnswer, Proxy: nil,
	}
	r.Header.Set("User-Agent", userAgent)
	answer, err := t.RoundTrip(r)
	return answer, t.CloseIdleConnections, err
}

func (c check) url(path string) string {
	return "http://" + c.address.String() + path
}

func (c check) http(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(c.Path), nil)
	if err != nil {
		return err
	}
	if c.Host != "" {
		r.Host = c.Host
	}
	answer, done, err := c.do(r, c.transport != nil && c.transport.HTTP2)
	if err != nil {
		return err
	}
	defer done()
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode >= 400 {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	return nil
}

// grpc calls grpc.health.v1.Health/Check, whose request has the service's name in field 1
// and whose answer the state in field 1: 1 is SERVING.
func (c check) grpc(ctx context.Context) error {
	var message []byte
	if c.Path != "" {
		message = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(c.Path))), c.Path...)
	}
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("/grpc.health.v1.Health/Check"), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if c.Host != "" {
		r.Host = c.Host
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("TE", "trailers")
	r.Header.Set("Grpc-Timeout", strconv.FormatInt(max(1, min(int64(c.Timeout/time.Millisecond), 99_999_999)), 10)+"m")
	answer, done, err := c.do(r, true)
	if err != nil {
		return err
	}
	defer done()
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	got, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	status := answer.Trailer.Get("Grpc-Status")
	if status == "" {
		status = answer.Header.Get("Grpc-Status") // an answer without a message
	}
	if status != "0" {
		return fmt.Errorf("grpc-status %.8q", status)
	}
	switch serving, err := servingStatus(got); {
	case err != nil:
		return err
	case serving != 1:
		return fmt.Errorf("grpc.health.v1 says %d, not 1 (SERVING)", serving)
	}
	return nil
}

var errAnswer = errors.New("the answer is not a grpc.health.v1.HealthCheckResponse")

// servingStatus reads the one message of an answer. Fields that it does not know it skips.
func servingStatus(b []byte) (status int32, err error) {
	if len(b) < 5 || b[0] != 0 || int64(binary.BigEndian.Uint32(b[1:])) != int64(len(b)-5) {
		return 0, errAnswer
	}
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errAnswer
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		switch tag & 7 {
		case 0:
			if tag>>3 == 1 {
				status = int32(v) // an enum's, cut off as protobuf does
			}
		case 1:
			n = 8
		case 2:
			if n > 0 && v < uint64(len(b)) {
				n += int(v)
			} else if v != 0 {
				n = 0
			}
		case 5:
			n = 4
		default:
			n = 0
		}
		if n <= 0 || n > len(b) {
			return 0, errAnswer
		}
		b = b[n:]
	}
	return status, nil
}
