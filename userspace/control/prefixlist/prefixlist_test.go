package prefixlist

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"198.51.100.0/24":       "198.51.100.0/24",
		"198.51.100.7":          "198.51.100.7/32",
		"2001:db8::/32":         "2001:db8::/32",
		"2001:db8::1":           "2001:db8::1/128",
		"::ffff:198.51.100.7":   "198.51.100.7/32",
		"0.0.0.0/0":             "0.0.0.0/0",
		"198.51.100.7/24":       "error: did you mean 198.51.100.0/24?",
		"2001:db8::1/32":        "error: did you mean 2001:db8::/32?",
		"198.51.100.0/33":       "error: is not a prefix",
		"fe80::1%eth0":          "error: is not a prefix",
		"host.example.com":      "error: is not a prefix",
		"":                      "error: is not a prefix",
		strings.Repeat("x", 99): `error: xxx..."`,
	} {
		p, err := Parse(text)
		if says, bad := strings.CutPrefix(want, "error: "); bad {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%q: %v, %v; want an error with %q", text, p, err, says)
			}
		} else if err != nil || p.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, p, err, want)
		}
	}
}

func TestRead(t *testing.T) {
	prefixes, wrong, err := Read(strings.NewReader(`# a feed
198.51.100.0/24   # twice
2001:db8::/32, 198.51.100.0/24,192.0.2.1
	
nonsense 203.0.113.0/24
10.0.0.1/8`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range prefixes {
		got = append(got, p.String())
	}
	if text := strings.Join(got, " "); text != "192.0.2.1/32 198.51.100.0/24 203.0.113.0/24 2001:db8::/32" {
		t.Errorf("prefixes %s", text)
	}
	if len(wrong) != 2 || !strings.HasPrefix(wrong[0].Error(), `line 5: "nonsense"`) || !strings.HasPrefix(wrong[1].Error(), "line 6: 10.0.0.1/8 has bits") {
		t.Errorf("wrong: %v", wrong)
	}
	if _, _, err := Read(strings.NewReader("1.2.3.4\n" + strings.Repeat("x", maxLine+1))); err == nil || !strings.Contains(err.Error(), "line 2: longer than 4 MiB") {
		t.Errorf("error %v of an endless line", err)
	}
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		prefix, address  string
		holds, everybody bool
	}{
		{"198.51.100.0/24", "198.51.100.9", true, false},
		{"198.51.100.0/24", "198.51.101.9", false, false},
		{"0.0.0.0/0", "198.51.100.9", true, true},
		{"0.0.0.0/0", "2001:db8::1", false, true},
		{"::/0", "198.51.100.9", true, true},
		{"::/1", "198.51.100.9", true, true},
		{"8000::/1", "198.51.100.9", false, false},
		{"fe80::/10", "fe80::1%lo", true, false},
	} {
		p := netip.MustParsePrefix(c.prefix)
		if got := Holds(p, netip.MustParseAddr(c.address)); got != c.holds {
			t.Errorf("%s holds %s: %t", c.prefix, c.address, got)
		}
		if got := HoldsEverybody(p); got != c.everybody {
			t.Errorf("%s holds everybody: %t", c.prefix, got)
		}
	}
}

// FuzzRead: whatever it is given, it returns valid prefixes without host bits, in order.
func FuzzRead(f *testing.F) {
	f.Add("198.51.100.0/24 # x\n2001:db8::/32,::ffff:1.2.3.4/120")
	f.Add("1.2.3.4/33\n\x00,,/")
	f.Fuzz(func(t *testing.T, text string) {
		prefixes, wrong, err := Read(strings.NewReader(text))
		if err != nil {
			t.Skip(err)
		}
		for i, p := range prefixes {
			if !p.IsValid() || p != p.Masked() || i > 0 && prefixes[i-1].Compare(p) >= 0 {
				t.Errorf("prefix %d: %v", i, p)
			}
			if again, err := Parse(p.String()); err != nil || again != p {
				t.Errorf("%v is read as %v, %v", p, again, err)
			}
		}
		for _, w := range wrong {
			if w.Line < 1 || w.Line > strings.Count(text, "\n")+1 {
				t.Errorf("error of line %d", w.Line)
			}
		}
	})
}
