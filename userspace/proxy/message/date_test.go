package message

import (
	"testing"
	"time"
)

func TestAppendDate(t *testing.T) {
	const want = "Sun, 06 Nov 1994 08:49:37 GMT"
	if got := string(AppendDate(nil, time.Unix(784111777, 0))); got != want || len(got) != DateSize {
		t.Errorf("got %q, want %q of %d bytes", got, want, DateSize)
	}
}
