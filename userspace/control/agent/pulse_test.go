package agent

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// TestSilentProxy: a proxy that does not turn loses new connections at once and gets them back
// when it turns again; an agent that is late itself does not judge; what has been silent for long is killed.
func TestSilentProxy(t *testing.T) {
	d := &faultyDatapath{
		services:    map[string]state.ServiceID{},
		generations: map[uint32]uint16{1: abi.GenerationServing},
		silence:     map[uint32]time.Duration{},
	}
	a := New(Options{Datapath: d, Source: hand{}, Log: zerolog.New(zerolog.NewTestWriter(t))})
	now := time.Now()
	look := func(after, silent time.Duration) {
		now = now.Add(after)
		d.silence[1] = silent
		a.feelPulse(now)
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if !slices.Equal(d.calls, want) {
			t.Fatalf("%s: calls %v, want %v", when, d.calls, want)
		}
		serving := len(want)%2 == 0
		if a.hasServing() != serving || a.hasProxy() != serving {
			t.Fatalf("%s: serving %v, a proxy %v, want %v", when, a.hasServing(), a.hasProxy(), serving)
		}
	}
	for range punctual + 1 {
		look(pulseInterval, silence/2)
	}
	expect("it turns")
	look(5*pulseInterval, 2*silence)
	look(pulseInterval, 2*silence)
	expect("the agent was late itself")
	for range punctual {
		look(pulseInterval, 2*silence)
	}
	expect("it does not turn", "suspend 1")
	look(pulseInterval, 0)
	expect("it turns again", "suspend 1", "serve 1")
	look(5*pulseInterval, mortal)
	expect("long silence counts even if the agent is late", "suspend 1", "serve 1", "suspend 1")

	process := exec.Command("sleep", "60")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	a.proxies[1].pid, a.proxies[1].watched = process.Process.Pid, true
	for range punctual {
		look(pulseInterval, mortal)
	}
	if err := process.Wait(); fmt.Sprint(err) != "signal: killed" {
		t.Errorf("the silent process: %v, want it killed", err)
	}
}

// TestRestartOfServed: after a proxy that had served the next one starts without the growing wait of one
// that never comes up, and one that still drains does not keep it from starting.
func TestRestartOfServed(t *testing.T) {
	c := &Child{Path: "/bin/sleep", Args: []string{"60"}, UID: 65532, GID: 65532, Log: zerolog.New(zerolog.NewTestWriter(t))}
	t.Cleanup(func() {
		c.kill(nil)
		for c.running() {
			c.reaped(<-c.exits())
		}
	})
	only := func() (pid int) {
		t.Helper()
		if len(c.processes) != 1 {
			t.Fatalf("processes %v, want one", c.processes)
		}
		for pid = range c.processes {
		}
		return pid
	}
	c.keep(false)
	drains := only()
	c.served(drains)
	if c.keep(true); len(c.processes) != 1 {
		t.Fatal("another was started although one serves")
	}
	if c.keep(false); len(c.processes) != 2 {
		t.Fatal("none was started beside the one that drains")
	}
	if c.keep(false); len(c.processes) != 2 {
		t.Fatal("a third was started while the second is on its way")
	}
	for pid := range c.processes {
		if pid == drains {
			continue
		}
		c.served(pid)
		c.processes[pid] = time.Now().Add(-2 * servedLong) // has served for that long
		c.backoff = restartMost
		c.reaped(childExit{pid, fmt.Errorf("signal: killed")})
	}
	if c.keep(false); len(c.processes) != 2 {
		t.Error("the next one waits although the one before it had served")
	}
	for pid := range c.processes {
		if pid == drains {
			continue
		}
		c.served(pid)
		c.reaped(childExit{pid, fmt.Errorf("signal: killed")})
	}
	if c.backoff > restartServed {
		t.Errorf("waits for %v after one that served for a moment, want %v at most", c.backoff, restartServed)
	}
}
