//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/websocket"
)

// Many requests at once on one HTTP/2 connection, with bodies both ways, reach pods as what
// they are.
func TestHTTP2(t *testing.T) {
	s := newSecureSite(t)
	over := s.httpsClient(true)
	plain := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return s.lab.Client.Dial(ctx, network, netip.AddrPortFrom(s.lab.VIP4, 80).String())
		},
		Protocols: func() *http.Protocols {
			p := new(http.Protocols)
			p.SetUnencryptedHTTP2(true)
			return p
		}(),
	}}
	defer plain.CloseIdleConnections()
	for name, c := range map[string]struct {
		client *http.Client
		base   string
		scheme string
	}{
		"TLS": {over, "https://" + webHost, "https"}, "prior knowledge": {plain, "http://" + plainHost, "http"},
	} {
		t.Run(name, func(t *testing.T) {
			var requests sync.WaitGroup
			for i := range 100 {
				requests.Go(func() {
					body := bytes.Repeat([]byte{'b'}, i*1000)
					response, err := c.client.Post(fmt.Sprintf("%s/item/%d?x=%d", c.base, i, i), "application/octet-stream", bytes.NewReader(body))
					if err != nil {
						t.Errorf("request %d: %v", i, err)
						return
					}
					r, err := readReply(response)
					if err != nil || r.Status != 200 || response.Proto != "HTTP/2.0" || r.Pod.Path != fmt.Sprintf("/item/%d", i) ||
						r.Pod.BodyBytes != int64(len(body)) || r.Pod.BodySHA256 != sumOf(string(body)) || r.Pod.Proto != "HTTP/1.1" {
						t.Errorf("request %d: %v, %s %d %.300s", i, err, response.Proto, r.Status, r.Body)
						return
					}
					if r.Pod.Headers.Get("X-Forwarded-Proto") != c.scheme || r.Pod.Headers.Get("X-Forwarded-For") != s.lab.Client.IPv4.String() {
						t.Errorf("request %d: the pod saw %v", i, r.Pod.Headers)
					}
				})
			}
			requests.Wait()
			response, err := c.client.Get(c.base + "/?size=3000000")
			must(t, err)
			if r, err := readReply(response); err != nil || len(r.Body) != 3_000_000 {
				t.Errorf("a large answer: %d bytes, %v", len(r.Body), err)
			}
			request, err := http.NewRequest("GET", c.base+"/?chunks=5&trailers=1", nil)
			must(t, err)
			request.Header.Set("TE", "trailers")
			response, err = c.client.Do(request)
			must(t, err)
			if _, err := readReply(response); err != nil || response.Trailer.Get("X-Body-Sha256") == "" {
				t.Errorf("trailers %v, %v", response.Trailer, err)
			}
		})
	}
}

// curl's HTTP/2 (nghttp2) gets on with ours.
func TestCurlHTTP2(t *testing.T) {
	s := newSecureSite(t)
	ca := s.file("ca.pem", s.authority.PEM)
	vip := s.lab.VIP4.String()
	for name, args := range map[string][]string{
		"2 TLS":             {"--http2", "--cacert", ca, "--resolve", webHost + ":443:" + vip, "https://" + webHost + "/curl"},
		"2 prior knowledge": {"--http2-prior-knowledge", "--resolve", plainHost + ":80:" + vip, "http://" + plainHost + "/curl"},
		"1.1 TLS":           {"--http1.1", "--cacert", ca, "--resolve", webHost + ":443:" + vip, "https://" + webHost + "/curl"},
	} {
		out, err := s.lab.Client.Run(lab.Command{Path: "curl", Args: append([]string{"-sS", "--max-time", "10", "-w", "\n%{http_version} %{http_code}"}, args...)})
		version, _, _ := strings.Cut(name, " ")
		if err != nil || !strings.HasSuffix(out, "\n"+version+" 200") || !strings.Contains(out, `"path":"/curl"`) {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
}

// gRPC calls, their errors and their deadlines pass, over TLS from the client and in clear
// text to the pod.
func TestGRPC(t *testing.T) {
	s := newSecureSite(t)
	pod, err := s.lab.Nodes[0].AddPod("grpc-1")
	must(t, err)
	listener, err := pod.Listen("tcp", fmt.Sprintf(":%d", lab.PodPort))
	must(t, err)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener) // ends with Stop
	t.Cleanup(server.Stop)
	const host = "a.wild.test"
	must(t, s.Manifests.Write("grpc.yaml", lab.ServiceOf("grpc", "grpc"), lab.EndpointSlice("grpc", pod.Endpoint(false)),
		lab.WithTLS(lab.Ingress("grpc", lab.Path{Host: host, Service: "grpc"}), "wild", host)))
	conn, err := grpc.NewClient("passthrough:///"+host, grpc.WithTransportCredentials(credentials.NewTLS(s.config(host))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 443).String())
		}))
	must(t, err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(t, lab.Until(10*time.Second, "answer to a gRPC call", func() error {
		answer, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
		if err == nil && answer.Status != healthpb.HealthCheckResponse_SERVING {
			err = fmt.Errorf("answer %v", answer)
		}
		return err
	}))
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "unknown"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v, want the pod's NotFound", err)
	}
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	must(t, err)
	if first, err := watch.Recv(); err != nil || first.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("the stream's first message: %v, %v", first, err)
	}
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	watch, err = client.Watch(short, &healthpb.HealthCheckRequest{})
	must(t, err)
	for err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a stream with a deadline ended with %v", err)
	}
}

// A WebSocket over HTTP/2 (RFC 8441) is one over HTTP/1.1 to the pod.
func TestWebSocketOverHTTP2(t *testing.T) {
	s := newSecureSite(t)
	config := s.config(webHost)
	config.NextProtos = []string{"h2"}
	c, err := s.secure(config)
	must(t, err)
	_, err = io.WriteString(c, http2.ClientPreface)
	must(t, err)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must(t, f.WriteSettings())
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":authority", webHost}, {":path", "/ws"}, {"sec-websocket-version", "13"}} {
		must(t, encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
	}
	var received []byte
	settled, opened := false, false
	read := func() {
		t.Helper()
		frame, err := f.ReadFrame()
		must(t, err)
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if frame.IsAck() {
				return
			}
			if v, ok := frame.Value(http2.SettingEnableConnectProtocol); !ok || v != 1 {
				t.Error("SETTINGS_ENABLE_CONNECT_PROTOCOL is not announced")
			}
			settled = true
			must(t, f.WriteSettingsAck())
		case *http2.MetaHeadersFrame:
			if got := frame.PseudoValue("status"); got != "200" {
				t.Fatalf("status %s", got)
			}
			opened = true
		case *http2.DataFrame:
			received = append(received, frame.Data()...)
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("refused: %v", frame)
		}
	}
	for !settled {
		read()
	}
	must(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}))
	for !opened {
		read()
	}
	for i := range 10 {
		message := fmt.Appendf(nil, "message %d", i)
		frame := websocket.Frame{Opcode: websocket.Text, Mask: binary.BigEndian.AppendUint32(nil, uint32(i)), Payload: message}
		must(t, f.WriteData(1, false, frame.Append(nil)))
		want := websocket.Frame{Opcode: websocket.Text, Payload: message}.Append(nil)
		for len(received) < len(want) {
			read()
		}
		if !bytes.Equal(received, want) {
			t.Fatalf("message %d came back as %q", i, received)
		}
		received = nil
	}
}
