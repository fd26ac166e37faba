package usage

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
)

func retries(c *Cell) *atomic.Uint64 { return &c.Retries }

// use counts one request at each line, at different workers.
func use(lines []*Line) {
	for i, l := range lines {
		l.Cell(i % 3).Retries.Add(1)
	}
}

func lines(b *Book, n int) []*Line {
	out := make([]*Line, n)
	for i := range out {
		out[i] = b.Line(ingress(fmt.Sprintf("default/i%05d", i)), "default/s:80")
	}
	return out
}

// TestBound: 10,000 Ingresses come to as many accounts as there is room for, and one. No
// request is lost.
func TestBound(t *testing.T) {
	b := NewBook(500, 2)
	all := lines(b, 10_000)
	if n := len(b.Accounts()); n != 0 {
		t.Errorf("%d accounts though nobody has asked", n)
	}
	use(all)
	use(all)
	accounts := b.Accounts()
	if len(accounts) != 501 {
		t.Fatalf("%d accounts, want 501", len(accounts))
	}
	last := accounts[500]
	if last.Name != (Name{model.ObjectRef{Kind: Other, Name: Other}, Other}) || last.Sum(retries) != 2*9500 || b.Folded() != 9500 {
		t.Errorf("%v has %d, of %d lines", last.Name, last.Sum(retries), b.Folded())
	}
	for i, a := range accounts[:500] {
		if a.Sum(retries) != 2 || a.Object.FullName() != fmt.Sprintf("default/i%05d", i) {
			t.Fatalf("account %d is %v and has %d", i, a.Name, a.Sum(retries))
		}
	}
	// A second route of an Ingress that has an account joins it.
	again := b.Line(ingress("default/i00007"), "default/s:80")
	use([]*Line{again})
	if n := b.Accounts()[7].Sum(retries); n != 3 {
		t.Errorf("the second route's request was counted elsewhere: %d", n)
	}
	runtime.KeepAlive(all)
}

// TestRenewal: routes that come anew go on counting; names that are gone make room.
func TestRenewal(t *testing.T) {
	b := NewBook(2, 1)
	old := lines(b, 2)
	use(old)
	renewed := lines(b, 1) // the first alone
	old = nil
	for deadline := time.Now().Add(10 * time.Second); len(b.Accounts()) != 1; {
		if time.Now().After(deadline) {
			t.Fatalf("%d accounts, want 1", len(b.Accounts()))
		}
		runtime.GC()
	}
	use(renewed)
	if n := b.Accounts()[0].Sum(retries); n != 2 {
		t.Errorf("counted %d, want 2: counts must outlive the routes' renewal", n)
	}
	next := b.Line(ingress("default/next"), "")
	use([]*Line{next})
	if n := len(b.Accounts()); n != 2 || b.Folded() != 0 {
		t.Errorf("%d accounts, %d folded: a name that was gone left no room", n, b.Folded())
	}
	runtime.KeepAlive(renewed)
	runtime.KeepAlive(next)
}

// TestWorkers: lines of the same name are used first by several workers at once.
func TestWorkers(t *testing.T) {
	b := NewBook(10, 4)
	first, second := b.Line(ingress("default/a"), "default/s:80"), b.Line(ingress("default/a"), "default/s:80")
	var all sync.WaitGroup
	for worker := range 8 { // more than the book knows of
		all.Go(func() {
			for i := range 1000 {
				l := first
				if i%2 == 0 {
					l = second
				}
				l.Cell(worker).Retries.Add(1)
				b.Accounts()
			}
		})
	}
	all.Wait()
	if accounts := b.Accounts(); len(accounts) != 1 || accounts[0].Sum(retries) != 8000 {
		t.Errorf("%d accounts, the first with %d", len(accounts), accounts[0].Sum(retries))
	}
}

// TestTook: a duration is counted in the first bucket that is not below it.
func TestTook(t *testing.T) {
	var c Cell
	for _, d := range []time.Duration{-1, time.Millisecond, time.Millisecond + 1, 10 * time.Second, time.Minute} {
		c.Took(d)
	}
	for i, want := range map[int]uint64{0: 2, 1: 1, len(Bounds) - 1: 1, len(Bounds): 1} {
		if n := c.Buckets[i].Load(); n != want {
			t.Errorf("bucket %d: %d, want %d", i, n, want)
		}
	}
	if sum := time.Duration(c.Sum.Load()); sum != 70*time.Second+2*time.Millisecond+1 {
		t.Errorf("sum %v", sum)
	}
}

func BenchmarkCell(b *testing.B) {
	l := NewBook(10, 2).Line(ingress("default/a"), "default/s:80")
	b.ReportAllocs()
	for b.Loop() {
		c := l.Cell(1)
		c.Ended[0].Add(1)
		c.Status[2].Add(1)
		c.Took(time.Millisecond)
		c.Sent.Add(128)
	}
}

// ingress names an Ingress by "namespace/name".
func ingress(name string) model.ObjectRef {
	namespace, name, _ := strings.Cut(name, "/")
	return model.ObjectRef{Kind: "Ingress", Namespace: namespace, Name: name}
}
