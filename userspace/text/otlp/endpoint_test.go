package otlp

import "testing"

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"http://collector:4318": "http://collector:4318/v1/traces", "https://c.example/": "https://c.example/v1/traces",
		"http://[2001:db8::1]:4318/own/path": "http://[2001:db8::1]:4318/own/path",
		"collector:4318":                     "", "": "", "grpc://c:4317": "", "http://": "", "http://u:p@c": "", "http://c/?a=b": "", "http://c/#x": "", "http://c:port": "",
	} {
		u, err := ParseEndpoint(in)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: %v, want an error", in, u)
		case want != "" && (err != nil || u.String() != want):
			t.Errorf("%q: %v, %v", in, u, err)
		}
	}
}
