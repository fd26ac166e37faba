package agent

import (
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// TestDrainIsForRoot: the proxy's user may look, and change nothing.
func TestDrainIsForRoot(t *testing.T) {
	var drained []bool
	a := &Agent{Options: Options{Drain: func(on bool) error { drained = append(drained, on); return nil }}}
	ask := func(what string, trusted bool) error {
		answered := make(chan error, 1)
		a.answer(feed.Asked{What: what, Trusted: trusted, Answer: func(_ []byte, err error) { answered <- err }})
		return <-answered
	}
	for _, what := range []string{status.QueryDrain, status.QueryUndrain} {
		if err := ask(what, false); err == nil || !strings.Contains(err.Error(), "run kerngatectl as root") {
			t.Errorf("%s by the proxy's user: %v", what, err)
		}
	}
	if len(drained) != 0 {
		t.Fatalf("the proxy's user has drained the node: %v", drained)
	}
	if err := ask(status.QueryDrain, true); err != nil || len(drained) != 1 {
		t.Errorf("drain by root: %v, %v", err, drained)
	}
}
