package compile

import (
	"testing"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/model"
)

// What objects say goes before the flags, also when they say that there is no limit.
func TestDefence(t *testing.T) {
	flags := state.Defence{Packets: state.Limit{PerSecond: 100, Burst: 7}, Connections: state.Limit{PerSecond: 10}, PrefixV4: 24}
	m := &model.Model{Defence: model.Defence{Packets: model.SourceLimit{Set: true, PerSecond: 5}}}
	s, _ := State(m, Node{Defence: flags})
	if want := (state.Defence{Packets: state.Limit{PerSecond: 5}, Connections: flags.Connections, PrefixV4: 24}); s.Defence != want {
		t.Errorf("defence %+v, want %+v", s.Defence, want)
	}
	m.Defence.Connections.Set = true
	if s, _ = State(m, Node{Defence: flags}); s.Defence.Connections != (state.Limit{}) {
		t.Errorf("connections %+v, want no limit", s.Defence.Connections)
	}
}
