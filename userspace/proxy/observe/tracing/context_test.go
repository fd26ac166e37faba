package tracing

import (
	"strings"
	"testing"
)

const example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" // of the recommendation

func TestParse(t *testing.T) {
	for text, sampled := range map[string]bool{
		example: true, strings.TrimSuffix(example, "1") + "0": false, strings.TrimSuffix(example, "01") + "03": true,
		"cc" + example[2:]: true, "cc" + example[2:] + "-what-comes-later": true,
	} {
		c, ok := Parse([]byte(text))
		if !ok || c.Sampled != sampled {
			t.Errorf("%s: %+v, %v", text, c, ok)
		}
		c.Sampled = true
		if got := string(c.Append(nil)); got != example {
			t.Errorf("%s is written as %s", text, got)
		}
	}
	for _, bad := range []string{
		"", "00", example[:54], example + "-", example + "0", "ff" + example[2:], "cc" + example[2:] + "x", strings.ToUpper(example),
		strings.Replace(example, "-", "_", 1), "0g" + example[2:], strings.Replace(example, "4bf9", "4BF9", 1),
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
	} {
		if c, ok := Parse([]byte(bad)); ok {
			t.Errorf("%q: %+v", bad, c)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("cc" + example[2:] + "-x")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := Parse([]byte(text))
		if !ok {
			return
		}
		again, ok := Parse(c.Append(nil))
		if !ok || again != c || string(again.Append(nil)[3:52]) != text[3:52] {
			t.Errorf("%q: %+v, then %+v", text, c, again)
		}
	})
}

func TestSettings(t *testing.T) {
	if s, err := Compile("", 0.5, true); s != nil || err != nil {
		t.Errorf("without an endpoint: %v, %v", s, err)
	}
	for _, bad := range []float64{-0.1, 1.1} {
		if s, err := Compile("http://c:4318", bad, false); err == nil {
			t.Errorf("ratio %v: %v", bad, s)
		}
	}
	for ratio, want := range map[float64][3]bool{0: {}, 0.5: {true, false, false}, 1: {true, true, true}} {
		s, err := Compile("http://c:4318", ratio, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]bool{s.Samples(1 << 61), s.Samples(3 << 62), s.Samples(1<<64 - 1)}; got != want {
			t.Errorf("ratio %v: %v", ratio, got)
		}
	}
}
