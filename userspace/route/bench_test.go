package route

import (
	"fmt"
	"testing"
)

// benchHosts makes n hosts and n wildcards with this many paths each.
func benchHosts(n, paths int) []Host[int] {
	var hosts []Host[int]
	for i := range n {
		var routes []Route[int]
		for j := range paths {
			routes = append(routes, Route[int]{Path: fmt.Sprintf("/path%d", j), Exact: j%5 == 4, Value: j})
		}
		hosts = append(hosts,
			Host[int]{Name: fmt.Sprintf("host%d.example.com", i), Routes: routes},
			Host[int]{Name: fmt.Sprintf("*.host%d.example.com", i), Routes: routes})
	}
	return hosts
}

func BenchmarkHosts(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		table := mustNew(b, benchHosts(n, 5))
		// Many different ones, so that the cache does not hold the one line.
		var exact, wild [][]byte
		for i := range 1024 {
			name := fmt.Sprintf("host%d.example.com", i*7919%n)
			exact, wild = append(exact, []byte(name)), append(wild, []byte("x."+name))
		}
		path := []byte("/path3/some/where")
		for _, c := range []struct {
			name  string
			hosts [][]byte
		}{{"exact", exact}, {"wildcard", wild}} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, ok := table.Match(c.hosts[i&1023], path, nil); !ok {
						b.Fatal("no match")
					}
				}
			})
		}
	}
}

func BenchmarkPaths(b *testing.B) {
	for _, n := range []int{1, 5, 8, 10, 100, 5000} {
		table := mustNew(b, []Host[int]{{Name: "example.com", Routes: benchHosts(1, n)[0].Routes}})
		var requests [][]byte
		for i := range 1024 {
			j := i * 7919 % n
			if j%5 == 4 {
				requests = append(requests, fmt.Appendf(nil, "/path%d", j))
			} else {
				requests = append(requests, fmt.Appendf(nil, "/path%d/some/where.html", j))
			}
		}
		host := []byte("example.com")
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := table.Match(host, requests[i&1023], nil); !ok {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkWith(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		hosts := benchHosts(n, 5)
		table := mustNew(b, hosts)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := table.With(hosts[:1], nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNormalise(b *testing.B) {
	dst := make([]byte, 0, 256)
	raw := []byte("/static/%7Euser/../images//logo.png")
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = NormalisePath(dst[:0], raw); err != nil {
			b.Fatal(err)
		}
	}
}
