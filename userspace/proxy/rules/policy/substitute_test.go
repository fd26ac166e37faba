package policy

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

func substituting(t testing.TB, once bool, pairs ...string) *Policy {
	t.Helper()
	m := &feedpb.Substitutions{Once: once}
	for i := 0; i < len(pairs); i += 2 {
		m.Replace = append(m.Replace, &feedpb.Substitutions_Substitution{From: pairs[i], To: pairs[i+1]})
	}
	p, err := Compile(&feedpb.Policy{Substitutions: m}, "", false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSubstitution: texts are found across the pieces in which a body comes, in the order of the rules,
// and nothing is held back but what could be the beginning of one.
func TestSubstitution(t *testing.T) {
	p := substituting(t, false, "<head>", "<HEAD id=1>", "<header>", "H", "ab", "$host", "aab", "x")
	var q Request
	q.Of(&message.Request{}, []byte("/"))
	q.Host = []byte("h.test")
	const body = "a<head>b<HEADER>aabAB<heaD<he"
	const want = "a<HEAD id=1>bHxh.test<heaD<he"
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		s, got := p.Substitute(&q), []byte(nil)
		for rest := []byte(body); ; {
			n := random.IntN(len(rest) + 1)
			got = append(got, s.Next(bytes.Clone(rest[:n]), n == len(rest))...)
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
		if string(got) != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	s := p.Substitute(&q)
	if got := s.Next([]byte("data: x\n\n"), false); string(got) != "data: x\n\n" {
		t.Errorf("%q is held back", strings.TrimPrefix("data: x\n\n", string(got)))
	}
	once := substituting(t, true, "a", "A").Substitute(&q)
	first := string(once.Next([]byte("xa"), false))
	if rest := string(once.Next([]byte("aa"), true)); first+rest != "xAaa" {
		t.Error(first, rest)
	}
}

// FuzzSubstitution compares with a search of the whole body.
func FuzzSubstitution(f *testing.F) {
	f.Add("some text", "me", 3)
	f.Add("aaaa", "aa", 1)
	f.Fuzz(func(t *testing.T, body, from string, at int) {
		if from == "" || len(from) > 100 || at < 0 || at > len(body) {
			t.Skip()
		}
		p := substituting(t, false, from, "<>")
		var q Request
		q.Of(&message.Request{}, nil)
		s := p.Substitute(&q)
		got := string(s.Next([]byte(body[:at]), false))
		got += string(s.Next([]byte(body[at:]), true))
		var want strings.Builder
		for folded, i := lower(body), 0; i < len(body); {
			if strings.HasPrefix(folded[i:], lower(from)) {
				want.WriteString("<>")
				i += len(from)
			} else {
				want.WriteByte(body[i])
				i++
			}
		}
		if got != want.String() {
			t.Errorf("%q in %q at %d: %q, want %q", from, body, at, got, want.String())
		}
	})
}
