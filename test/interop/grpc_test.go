package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/status"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// pod is a server of grpc-go's.
type pod struct {
	address string
	calls   atomic.Int64
}

var authority = certtest.NewAuthorityOf(certtest.ECDSA, "interop")

// newPod serves the interoperability tests until the test ends, or what register adds.
func newPod(t *testing.T, encrypted bool, register func(*grpc.Server)) *pod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{address: l.Addr().String()}
	options := []grpc.ServerOption{
		orca.CallMetricsServerOption(nil),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			p.calls.Add(1)
			return h(ctx, req)
		}),
	}
	if encrypted {
		chain, key := authority.Pair(certtest.ECDSA, hostName)
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	}
	s := grpc.NewServer(options...)
	if register == nil {
		register = func(s *grpc.Server) { testgrpc.RegisterTestServiceServer(s, interop.NewTestServer()) }
	}
	register(s)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return p
}

// newProxy publishes the pods.
func newProxy(t *testing.T, clients, pods bool, backends ...*pod) *proxytest.Proxy {
	t.Helper()
	u := &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2, Grpc: true}
	if pods {
		u.Tls = &feedpb.UpstreamTLS{Verify: true, Authority: "d/ca", ServerName: hostName}
	}
	service := proxytest.Service{Name: "default/grpc:80", Host: hostName, Path: "/", Upstream: u}
	for _, b := range backends {
		service.Backends = append(service.Backends, b.address)
	}
	p := proxytest.Start(t, []proxytest.Service{service}, nil)
	chain, key := authority.Pair(certtest.ECDSA, hostName)
	more := &feedpb.Config{
		Version:      p.Config.Load().Version + 1,
		Authorities:  []*feedpb.Authority{{Id: "d/ca", Certificates: authority.PEM()}},
		Certificates: []*feedpb.Certificate{{Id: "d/cert", Chain: chain, Key: key}}, DefaultCertificate: "d/cert",
	}
	more.Settings = &feedpb.Settings{AccessLogSample: 1}
	if clients {
		_, port, _ := net.SplitHostPort(p.Address)
		n, _ := strconv.Atoi(port)
		more.Settings.HttpsPorts = []uint32{uint32(n)}
	}
	next, err := p.Config.Load().Apply(more)
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Store(next)
	return p
}

// runCases runs grpc-go's client against the target, and returns the cases that failed with
// what it said.
func runCases(t *testing.T, target string, encrypted bool, names []string) map[string]string {
	t.Helper()
	failed := map[string]string{}
	for len(names) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		c := exec.CommandContext(ctx, os.Args[0])
		c.Env = append(os.Environ(), envTarget+"="+target, envCases+"="+strings.Join(names, ","))
		if encrypted {
			c.Env = append(c.Env, envRoots+"="+string(authority.PEM()))
		}
		out, err := c.CombinedOutput()
		cancel()
		passed := bytes.Count(out, []byte("passed "))
		if err == nil && passed == len(names) {
			break
		}
		if passed >= len(names) {
			t.Fatalf("%v: %s", err, out)
		}
		failed[names[passed]] = fmt.Sprintf("%v: %s", err, out)
		names = names[passed+1:]
	}
	return failed
}

// TestInterop: every case that passes without the proxy passes through it.
func TestInterop(t *testing.T) {
	var names []string
	for _, c := range cases {
		names = append(names, c.name)
	}
	for _, encrypted := range []bool{false, true} {
		p := newPod(t, encrypted, nil)
		for name, said := range runCases(t, p.address, encrypted, names) {
			t.Errorf("%s fails without the proxy: %s", name, said)
		}
	}
	word := map[bool]string{false: "clear text", true: "TLS"}
	for _, clients := range []bool{false, true} {
		for _, pods := range []bool{false, true} {
			t.Run(word[clients]+" to "+word[pods], func(t *testing.T) {
				a, b := newPod(t, pods, nil), newPod(t, pods, nil)
				p := newProxy(t, clients, pods, a, b)
				for name, said := range runCases(t, p.Address, clients, names) {
					t.Errorf("%s: %s", name, said)
				}
				if a.calls.Load() == 0 || b.calls.Load() == 0 {
					t.Errorf("%d and %d calls: not balanced", a.calls.Load(), b.calls.Load())
				}
				if n := p.Metrics.GRPC[1].Load(); n == 0 {
					t.Error("no call is counted as OK")
				}
			})
		}
	}
}

// connect returns a channel through the proxy, in clear text.
func connect(t *testing.T, p *proxytest.Proxy) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+p.Address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(hostName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// TestBalance: the calls of one channel, which is one connection, go to all pods.
func TestBalance(t *testing.T) {
	pods := []*pod{newPod(t, false, nil), newPod(t, false, nil), newPod(t, false, nil)}
	p := newProxy(t, false, false, pods...)
	tc := testgrpc.NewTestServiceClient(connect(t, p))
	const calls = 600
	for range calls {
		if _, err := tc.EmptyCall(t.Context(), &testgrpc.Empty{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.Stats.Accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	for i, pod := range pods {
		if n := pod.calls.Load(); n < int64(calls/len(pods)/2) {
			t.Errorf("pod %d got %d of %d calls", i, n, calls)
		}
	}
}

// TestOwnErrors: what fails in the proxy is an error of gRPC for the client.
func TestOwnErrors(t *testing.T) {
	gone := &pod{address: "127.0.0.1:1"}
	for _, c := range []struct {
		name, host string
		pods       []*pod
		code       codes.Code
		text       string
	}{
		{"no pod", hostName, nil, codes.Unavailable, "no_endpoint"},
		{"no pod that answers", hostName, []*pod{gone}, codes.Unavailable, "connect_failed"},
		{"no route", "other.example", []*pod{gone}, codes.Unimplemented, "no_route"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, false, false, c.pods...)
			cc, err := grpc.NewClient("passthrough:///"+p.Address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(c.host))
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			_, err = testgrpc.NewTestServiceClient(cc).EmptyCall(t.Context(), &testgrpc.Empty{})
			if s := status.Convert(err); s.Code() != c.code || !strings.HasPrefix(s.Message(), c.text+": ") {
				t.Errorf("%v, want %v %s", err, c.code, c.text)
			}
			if n := p.Metrics.GRPC[c.code+1].Load(); n != 1 {
				t.Errorf("%d calls counted as %v", n, c.code)
			}
			if want := `"grpc_status":"` + strings.ToLower(c.code.String()) + `"`; !logged(p, want) {
				t.Errorf("%s is not logged: %s", want, p.Log)
			}
		})
	}
}

// logged reports whether the access log comes to hold a text.
func logged(p *proxytest.Proxy, text string) bool {
	for range 100 {
		if strings.Contains(p.Log.String(), text) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// waiting is a server that tells what becomes of its calls.
type waiting struct {
	testgrpc.UnimplementedTestServiceServer
	deadline chan time.Duration
	ended    chan error
}

func (w *waiting) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	d, _ := s.Context().Deadline()
	w.deadline <- time.Until(d)
	<-s.Context().Done()
	w.ended <- s.Context().Err()
	return s.Context().Err()
}

// TestDeadlineAndCancel: the pod learns of both from the client.
func TestDeadlineAndCancel(t *testing.T) {
	w := &waiting{deadline: make(chan time.Duration, 1), ended: make(chan error, 1)}
	p := newProxy(t, false, false, newPod(t, false, func(s *grpc.Server) { testgrpc.RegisterTestServiceServer(s, w) }))
	tc := testgrpc.NewTestServiceClient(connect(t, p))
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x", "y"), 30*time.Second)
	defer cancel()
	stream, err := tc.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-w.deadline:
		if d < 20*time.Second || d > 30*time.Second {
			t.Errorf("the pod has %v, want about 30 s", d)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the call does not reach the pod")
	}
	cancel()
	select {
	case err := <-w.ended:
		if err != context.Canceled {
			t.Errorf("%v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the pod was not told")
	}
}

// TestPatience: a call that says how long it waits is not cut off before, though nothing
// passes in the meantime.
func TestPatience(t *testing.T) {
	p := newProxy(t, false, false, newPod(t, false, nil))
	next, err := p.Config.Load().Apply(&feedpb.Config{Version: 9, Settings: &feedpb.Settings{ResponseTimeoutMs: 300, BodyTimeoutMs: 300}})
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Store(next)
	tc := testgrpc.NewTestServiceClient(connect(t, p))
	ask := func(ctx context.Context) error {
		s, err := tc.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		err = s.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1, IntervalUs: 1_200_000}}})
		if err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := ask(ctx); err != nil {
		t.Error(err)
	}
	if err := ask(t.Context()); err == nil {
		t.Error("a call without a deadline waits longer than the time-out")
	}
}

// breaking is a server that dies in the middle of a call.
type breaking struct {
	testgrpc.UnimplementedTestServiceServer
	die func()
}

func (b *breaking) StreamingOutputCall(_ *testgrpc.StreamingOutputCallRequest, s testgrpc.TestService_StreamingOutputCallServer) error {
	if err := s.Send(&testgrpc.StreamingOutputCallResponse{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// TestPodDies: the client of a call that breaks off in the middle is told so in gRPC.
func TestPodDies(t *testing.T) {
	b := &breaking{}
	p := newProxy(t, false, false, newPod(t, false, func(s *grpc.Server) {
		testgrpc.RegisterTestServiceServer(s, b)
		b.die = s.Stop
	}))
	s, err := testgrpc.NewTestServiceClient(connect(t, p)).StreamingOutputCall(t.Context(), &testgrpc.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	b.die()
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "upstream_aborted") {
		t.Errorf("%v", err)
	}
}
