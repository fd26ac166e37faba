package accesslog_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/observe/accesslog"
	"github.com/kerngate/kerngate/userspace/text/logformat"
)

// line logs a request in a format.
func line(t testing.TB, format, head string) string {
	t.Helper()
	x := ended(t, 1, head)
	s, err := config.Empty().Apply(&feedpb.Config{Version: 1, Snapshot: true, Settings: &feedpb.Settings{AccessLogSample: 1, AccessLogFormat: format}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l := accesslog.New(&out)
	b := l.Buffer()
	b.LogAs(s.Settings.AccessLogFormat, x, x.Outcome.Start+1_500_000, 42)
	b.Flush()
	l.Close()
	return out.String()
}

func TestTemplates(t *testing.T) {
	const head = "GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nReferer: http://r/\r\nUser-Agent: ag \"x\\\" 200 \xff\r\nX-A: 1 2|3\r\nX-Request-ID: id|1\r\n\r\n"
	for format, want := range map[string]string{
		"combined": `^192\.0\.2\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /a\?b=c HTTP/1\.1" 200 42 "http://r/" "ag \\x22x\\x5C\\x22 200 \\xFF"\n$`,
		"{client}|{field_x-a}|{status}|{duration_us}|{upstream}|{query}": `^192\.0\.2\.1\|1\\x202\\x7C3\|200\|1500\|-\|b=c\n$`,
		`{"a":"{field_X-A}"`: "",
		`"{field_X-A}" {target} {field_none} {tries} {reason}`: `^"1 2\|3" /a\?b=c - 0 forwarded\n$`,
	} {
		if want == "" {
			if _, err := logformat.Parse(format); err == nil {
				t.Errorf("%s is taken", format)
			}
			continue
		}
		if got := line(t, format, head); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q, want %s", format, got, want)
		}
	}
}

func TestRefusedFormats(t *testing.T) {
	for format, want := range map[string]string{
		"xml": "want json", "{nope}": "no field", "{client": "no }", "{client}\n": "printable",
		`"{client}`: "double quote", "{field_Authorization}": "credentials", "{field_cookie}": "credentials",
		"{field_}": "not the name", "{field_a b}": "not the name", "{field_NAME} {client} " + strings.Repeat("x", 5000): "more than",
		strings.Repeat("{client}", 100): "parts",
	} {
		if _, err := logformat.Parse(format); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %s", format, err, want)
		}
	}
}

// FuzzTemplate: no value of a client adds a line, ends its quotes or adds a column.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"a", `a" 200 "`, "a b", `\`, "a|b", "\xff\t"} {
		f.Add(s)
	}
	format, err := logformat.Parse(`{field_x} {status}|"{field_x}"`)
	if err != nil {
		f.Fatal(err)
	}
	// One exchange for all: each has a reactor, which has descriptors.
	x := ended(f, 1, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f.Fuzz(func(t *testing.T, v string) {
		if strings.ContainsAny(v, "\r\n\x00") || strings.TrimFunc(v, func(r rune) bool { return r == ' ' || r == '\t' }) != v {
			return
		}
		for _, c := range []byte(v) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return // the parser refuses it
			}
		}
		r := new(http1.Request)
		x.Request = &r.Request
		if n, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\nX: "+v+"\r\n\r\n"), message.Limits{}); n == 0 || err != nil {
			return // the parser's business
		}
		var out bytes.Buffer
		l := accesslog.New(&out)
		b := l.Buffer()
		b.LogAs(format, x, x.Outcome.Start, 0)
		b.Flush()
		l.Close()
		got := out.String()
		first, quoted, _ := strings.Cut(strings.TrimSuffix(got, "\n"), "|")
		if strings.Count(got, "\n") != 1 || strings.Count(first, " ") != 1 || !strings.HasSuffix(first, " 200") || strings.Count(quoted, `"`) != 2 {
			t.Errorf("%q makes %q", v, got)
		}
	})
}
