package tickets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestOverlap: over many rotations, a key is known to everybody for a whole interval before
// it is used, and for a whole interval after.
func TestOverlap(t *testing.T) {
	r := New(start)
	if r.Next == r.Current || r.Current == r.Previous {
		t.Fatal("keys are not random")
	}
	for i := range 10 {
		now := start.Add(time.Duration(i+1) * Interval)
		if r.Due(now.Add(-time.Second)) || !r.Due(now) {
			t.Errorf("rotation %d is not due at its time", i)
		}
		next := r.Rotate(now)
		if next.Current != r.Next || next.Previous != r.Current || next.Next == r.Next || next.Next == r.Previous || !next.Rotated.Equal(now) {
			t.Fatalf("rotation %d does not move the keys on", i)
		}
		if keys := next.Keys(); !bytes.Equal(keys[0], r.Keys()[1]) || !bytes.Equal(keys[2], r.Keys()[0]) {
			t.Fatal("a proxy with the last ring cannot read tickets of this one, or the other way round")
		}
		r = next
	}
}

func TestParse(t *testing.T) {
	r := New(start)
	again, err := Parse(r.Data())
	if err != nil || again != r {
		t.Fatalf("%v", err)
	}
	for part, value := range map[string][]byte{"next": nil, "current": make([]byte, 31), "previous": make([]byte, 33), "rotated": []byte("yesterday"), "affinity": make([]byte, 31)} {
		data := r.Data()
		data[part] = value
		if _, err := Parse(data); err == nil || !strings.HasPrefix(err.Error(), part+": ") {
			t.Errorf("%s: %v", part, err)
		}
	}
}

// TestComplete: a ring that was stored by a version without the key for cookies gets one,
// which then stays.
func TestComplete(t *testing.T) {
	data := New(start).Data()
	delete(data, "affinity")
	r, err := Parse(data)
	if err != nil || r.Affinity != (Key{}) {
		t.Fatalf("%v", err)
	}
	full := r.Complete()
	if full.Affinity == (Key{}) || full.Complete() != full || full.Rotate(start).Affinity != full.Affinity {
		t.Error("the key is not there, or does not stay")
	}
}

func TestHidden(t *testing.T) {
	r := New(start)
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %s %x %X %d %q %v %s", r, r, r, r, r, r.Next, r.Current, r, &r, encoded)
	for _, key := range r.Keys() {
		for _, form := range []string{fmt.Sprintf("%x", key[:8]), fmt.Sprintf("%X", key[:8]), strings.Trim(fmt.Sprint(key[:8]), "[]"), fmt.Sprintf("%#v", key[:8])[7:40], string(key[:8])} {
			if strings.Contains(text, form) {
				t.Errorf("%q of a key is in %s", form, text)
			}
		}
	}
}

func TestInMemory(t *testing.T) {
	out, done := make(chan Ring), make(chan struct{})
	go func() { defer close(done); InMemory(t.Context(), out) }()
	if r := <-out; r.Due(time.Now()) || len(r.Keys()) != 3 {
		t.Error("the first ring is due already")
	}
	select {
	case <-out:
		t.Error("a second ring at once")
	case <-time.After(10 * time.Millisecond):
	}
}
