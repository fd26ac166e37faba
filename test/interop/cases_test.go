// Package interop holds the proxy against gRPC's interoperability tests: grpc-go's own client
// and server talk through it, over clear text and TLS on either side.
package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// cases are those of grpc-go's client, but for the ones that need credentials of Google's
// cloud (compute_engine_creds, service_account_creds, jwt_token_creds, per_rpc_creds,
// oauth2_auth_token, google_default_credentials, compute_engine_channel_credentials), for
// pick_first_unary, which grpc-go's server does not support, and for orca_oob, for which that
// server needs an option that grpc-go keeps to itself.
var cases = []struct {
	name string
	run  func(ctx context.Context, cc *grpc.ClientConn, tc testgrpc.TestServiceClient)
}{
	{"empty_unary", simple(interop.DoEmptyUnaryCall)},
	{"large_unary", simple(interop.DoLargeUnaryCall)},
	{"client_streaming", simple(interop.DoClientStreaming)},
	{"server_streaming", simple(interop.DoServerStreaming)},
	{"ping_pong", simple(interop.DoPingPong)},
	{"empty_stream", simple(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", simple(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", simple(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", simple(interop.DoCancelAfterFirstResponse)},
	{"status_code_and_message", simple(interop.DoStatusCodeAndMessage)},
	{"special_status_message", simple(interop.DoSpecialStatusMessage)},
	{"custom_metadata", simple(interop.DoCustomMetadata)},
	{"unimplemented_method", func(ctx context.Context, cc *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		interop.DoUnimplementedMethod(ctx, cc)
	}},
	{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	}},
	{"orca_per_rpc", func(ctx context.Context, _ *grpc.ClientConn, tc testgrpc.TestServiceClient) {
		interop.DoORCAPerRPCTest(ctx, tc)
	}},
	{"rpc_soak", func(ctx context.Context, cc *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		soak(ctx, func() (*grpc.ClientConn, func()) { return cc, func() {} })
	}},
	{"channel_soak", func(ctx context.Context, _ *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		soak(ctx, func() (*grpc.ClientConn, func()) { cc := dial(); return cc, func() { cc.Close() } })
	}},
}

func simple(f func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn, testgrpc.TestServiceClient) {
	return func(ctx context.Context, _ *grpc.ClientConn, tc testgrpc.TestServiceClient) { f(ctx, tc) }
}

func soak(ctx context.Context, channel func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: 5 * time.Second,
		OverallTimeout: 20 * time.Second, ServerAddr: os.Getenv(envTarget), NumWorkers: 2, Iterations: 6,
		ChannelForTest: channel,
	})
}

// A case that fails ends its process, so the client is one of its own: this test's binary,
// told by these variables what to do.
const (
	envTarget = "KERNGATE_INTEROP_TARGET" // host:port
	envCases  = "KERNGATE_INTEROP_CASES"  // names, by commas
	envRoots  = "KERNGATE_INTEROP_ROOTS"  // PEM; "": clear text
)

func TestMain(m *testing.M) {
	if os.Getenv(envTarget) == "" {
		os.Exit(m.Run())
	}
	cc := dial()
	defer cc.Close()
	for _, name := range strings.Split(os.Getenv(envCases), ",") {
		for _, c := range cases {
			if c.name == name {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				c.run(ctx, cc, testgrpc.NewTestServiceClient(cc))
				cancel()
				fmt.Println("passed", name)
			}
		}
	}
}

// dial returns a channel to the target.
func dial() *grpc.ClientConn {
	creds := insecure.NewCredentials()
	if roots := os.Getenv(envRoots); roots != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(roots))
		creds = credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: hostName})
	}
	cc, err := grpc.NewClient("passthrough:///"+os.Getenv(envTarget), grpc.WithTransportCredentials(creds), grpc.WithAuthority(hostName),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return cc
}

// hostName is the host that everything is published as.
const hostName = "grpc.example"
