package template

import "testing"

func TestSubstitute(t *testing.T) {
	values := map[string]string{"user": "${auth_answer_http_x}", "service_name": "web"}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$user": "${auth_answer_http_x}", "a${user}b $user": "a${auth_answer_http_x}b ${auth_answer_http_x}",
		"$users $host": "$users $host", "$service_name.$namespace": "web.$namespace", "$ $$user ${": "$ $${auth_answer_http_x} ${", "$1": "$1",
	} {
		if got := Substitute(in, func(name string) (string, bool) { v, ok := values[name]; return v, ok }); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
