package config

import (
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// A service that changes alone is known by its new values to routes that came before.
func TestCurrent(t *testing.T) {
	first, err := Empty().Apply(&feedpb.Config{Snapshot: true, Services: []*feedpb.Service{{Id: 3, Name: "a/b:80"}}})
	if err != nil {
		t.Fatal(err)
	}
	old := first.Service(3)
	second, err := first.Apply(&feedpb.Config{Services: []*feedpb.Service{{Id: 3, Name: "a/b:80", MaxPending: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := second.Current(old); got.MaxPending != 7 {
		t.Errorf("pending: %d, want 7", got.MaxPending)
	}
	if got := first.Current(old); got != old {
		t.Error("the earlier snapshot knows what came later")
	}
	third, err := second.Apply(&feedpb.Config{RemovedServices: []uint32{3}})
	if err != nil {
		t.Fatal(err)
	}
	if got := third.Current(old); got != old {
		t.Error("a service that is gone became another")
	}
}
