//go:build linux && applications

package applications

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
)

const grpcHost = "grpc.test"

// grpcURL asks a server for its services by reflection before it calls them: each call is a
// stream in both directions and another call.
var grpcURL = application{
	name: "grpcurl", source: "github.com/fullstorydev/grpcurl; the server is grpc-go with reflection and health, by annotation backend-protocol GRPC",
	built: []string{"grpcurl"},
	version: func(t *testing.T) string {
		return "grpcurl " + moduleVersion(t, "grpcurl", "github.com/fullstorydev/grpcurl") + ", grpc-go " + grpc.Version
	},
	publish: func(s *site) {
		pod := s.addPod("grpc-1")
		server := grpc.NewServer()
		testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
		healthy := health.NewServer()
		healthy.SetServingStatus("asleep", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		grpc_health_v1.RegisterHealthServer(server, healthy)
		reflection.Register(server)
		go server.Serve(s.listen(pod, 80))
		s.t.Cleanup(server.Stop)
		s.add(publication{host: grpcHost, pod: pod, port: 80, protocol: "GRPC"})
	},
	conversations: []conversation{
		{does: "list and describe (reflection)", talk: grpcTalk(
			[]string{"HOST", "list"},
			[]string{"HOST", "describe", "grpc.testing.TestService"},
			[]string{"HOST", "describe", ".grpc.health.v1.HealthCheckResponse"})},
		{does: "health of two services, and of one that is not there", talk: grpcTalk(
			[]string{"HOST", "grpc.health.v1.Health/Check"},
			[]string{"-d", `{"service":"asleep"}`, "HOST", "grpc.health.v1.Health/Check"},
			[]string{"-d", `{"service":"nobody"}`, "HOST", "grpc.health.v1.Health/Check"})},
		{does: "call of 200 kB, and its answer of 300 kB", talk: grpcTalk(
			[]string{"-d", "@body", "HOST", "grpc.testing.TestService/UnaryCall"})},
		{does: "20 messages from the server, and from the client, as streams", talk: grpcTalk(
			[]string{"-d", `{"response_parameters":[` + strings.TrimRight(strings.Repeat(`{"size":3000},`, 20), ",") + `]}`, "HOST", "grpc.testing.TestService/StreamingOutputCall"},
			[]string{"-d", strings.Repeat(`{"payload":{"body":"AAAAAAAA"}}`, 20), "HOST", "grpc.testing.TestService/StreamingInputCall"},
			[]string{"-d", strings.Repeat(`{"response_parameters":[{"size":100}]}`, 20), "HOST", "grpc.testing.TestService/FullDuplexCall"})},
		{does: "metadata of the client, in the head and in trailers", talk: grpcTalk(
			[]string{"-v", "-H", "x-grpc-test-echo-initial: one", "-H", "x-grpc-test-echo-trailing-bin: " + base64.StdEncoding.EncodeToString([]byte{0, 1, 255}),
				"HOST", "grpc.testing.TestService/UnaryCall"})},
		{does: "errors: a status with a message, a method that is not there", talk: grpcTalk(
			[]string{"-d", `{"response_status":{"code":9,"message":"not % äöü today"}}`, "HOST", "grpc.testing.TestService/UnaryCall"},
			[]string{"HOST", "grpc.testing.TestService/UnimplementedCall"})},
	},
}

func TestGRPCurl(t *testing.T) { run(t, &grpcURL) }

// grpcTalk runs grpcurl with these arguments, one after the other. HOST is what to call, and @body
// a message that is too long for an argument.
func grpcTalk(calls ...[]string) func(*way) string {
	return func(w *way) string {
		var text strings.Builder
		for _, call := range calls {
			args := []string{"-cacert", w.path("ca.pem")}
			host := grpcHost + ":443"
			if w.name == direct {
				args, host = []string{"-plaintext"}, grpcHost+":80"
			}
			input := "/dev/null"
			for _, arg := range call {
				switch arg {
				case "HOST":
					arg = host
				case "@body":
					arg = "@"
					input = w.file("message.json", `{"response_size":300000,"payload":{"body":"`+base64.StdEncoding.EncodeToString(make([]byte, 200_000))+`"}}`)
				}
				args = append(args, arg)
			}
			o := w.runIn("", nil, "sh", append([]string{"-c", `exec <"$0"; exec "$@"`, input, w.program("grpcurl")}, args...)...)
			fmt.Fprintf(&text, "exit status %d\n%s%s", o.code, grpcSaid(o.stdout), grpcSaid(o.stderr))
		}
		return text.String()
	}
}

// grpcSaid is what grpcurl says of a call, without headers that are an ingress's own and without
// how long it took.
func grpcSaid(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "server", "date", "strict-transport-security", "estimated response size":
		default:
			kept.WriteString(line)
		}
	}
	return kept.String()
}
