// Package usage counts what is asked of each object that has routes, such as an Ingress, and of
// each Service, within a bound on how many are told apart.
//
// A route holds a Line, which names its object and a Service. The first request of a Line
// opens the Account of that name, or joins the one that is there; beyond the Book's bound it
// joins the account of all others. So routes that nobody asks for take no room. An account
// lives as long as a Line of its name, whichever configuration that came with; counts do
// not begin anew because routes were sent again.
//
// Workers count in cells of their own: no lock, no line of memory that two of them write.
package usage

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/kerngate/kerngate/userspace/model"
)

// Most is how many accounts a Book has room for where nothing else is said.
const Most = 2000

// Other stands for kind, object and Service of the account that takes what a Book has no room for.
// Objects have a namespace here, so that none is like it.
const Other = "other"

// Name identifies one account.
type Name struct {
	Object  model.ObjectRef // zero: the default service, which none leads to
	Service string          // "namespace/name:port"; "": the object names one that does not exist
}

// Book holds the accounts of a proxy.
type Book struct {
	most    int
	workers int
	folded  atomic.Uint64
	other   *Account

	mu    sync.Mutex
	known map[Name]weak.Pointer[Account] // lines hold them
}

// NewBook returns a book with room for so many accounts, besides that of all others.
func NewBook(most, workers int) *Book {
	b := &Book{most: most, workers: max(workers, 1), known: map[Name]weak.Pointer[Account]{}}
	b.other = b.open(Name{model.ObjectRef{Kind: Other, Name: Other}, Other})
	return b
}

// Line returns a line for a route.
func (b *Book) Line(object model.ObjectRef, service string) *Line {
	l := &Line{book: b, name: Name{object, service}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.known[l.name].Value(); a != nil {
		l.account.Store(a)
	}
	return l
}

// Folded returns how many lines were counted with all others.
func (b *Book) Folded() uint64 { return b.folded.Load() }

// Accounts returns those that were ever used and have a line still, by name, that of all
// others last; it is there only if it was used.
func (b *Book) Accounts() []*Account {
	b.mu.Lock()
	all := make([]*Account, 0, len(b.known)+1)
	for name, p := range b.known {
		if a := p.Value(); a != nil {
			all = append(all, a)
		} else {
			delete(b.known, name)
		}
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y *Account) int {
		return cmp.Or(x.Object.Compare(y.Object), cmp.Compare(x.Service, y.Service))
	})
	if b.folded.Load() > 0 {
		all = append(all, b.other)
	}
	return all
}

// join finds the account of a line that has none yet.
func (b *Book) join(l *Line) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := l.account.Load(); a != nil { // another worker was faster
		return a
	}
	p, gone := b.known[l.name] // unless the account is there still
	a := p.Value()
	switch {
	case a != nil:
	case len(b.known) >= b.most && !gone:
		// Places of names that are gone are found when somebody reads: a worker is not to
		// look through all of them.
		a = b.other
		b.folded.Add(1)
	default:
		a = b.open(l.name)
		b.known[l.name] = weak.Make(a)
	}
	l.account.Store(a)
	return a
}

func (b *Book) open(name Name) *Account {
	return &Account{Name: name, cells: make([]atomic.Pointer[Cell], b.workers)}
}

// Line is where a route's requests are counted.
type Line struct {
	book    *Book
	name    Name
	account atomic.Pointer[Account] // nil: nobody has asked yet
}

// Cell returns what a worker counts in. It allocates only the first time.
func (l *Line) Cell(worker int) *Cell {
	a := l.account.Load()
	if a == nil {
		a = l.book.join(l)
	}
	place := &a.cells[worker%len(a.cells)]
	if c := place.Load(); c != nil {
		return c
	}
	place.CompareAndSwap(nil, new(Cell))
	return place.Load()
}

// Account is what was asked of one object and Service.
type Account struct {
	Name
	cells []atomic.Pointer[Cell] // by worker
}

// Sum adds up one count of all workers.
func (a *Account) Sum(of func(*Cell) *atomic.Uint64) (sum uint64) {
	for i := range a.cells {
		if c := a.cells[i].Load(); c != nil {
			sum += of(c).Load()
		}
	}
	return sum
}
