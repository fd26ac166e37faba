//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// dialVIP connects to the ingress address and closes the connection.
func dialVIP(s *site) error {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	conn, err := s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 80).String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// shutOut reports, by its error, whether the client's packets vanish.
func shutOut(s *site) error {
	err := dialVIP(s)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return fmt.Errorf("connect: %v", err)
}

// What an operator denies is denied when kerngatectl returns, stays so over a restart of the
// agent, and passes again when he takes it back.
func TestOperatorsDeny(t *testing.T) {
	s := newSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	ctl := func(args ...string) string {
		t.Helper()
		out, err := s.Ctl(args...)
		must(t, err)
		return out
	}
	client := s.lab.Client.IPv4.String()
	must(t, dialVIP(s))
	ctl("deny", "add", "192.0.2.0/24")
	must(t, shutOut(s))
	must(t, s.Agent.Stop(15*time.Second))
	must(t, shutOut(s))
	must(t, s.Kerngate.Start())
	must(t, lab.Until(10*time.Second, "agent", func() error { _, err := s.Ctl("problems"); return err }))
	must(t, shutOut(s))
	ctl("allow", "add", client)
	must(t, dialVIP(s))
	ctl("allow", "del", client)
	must(t, shutOut(s))
	if out := ctl("deny", "list"); !strings.Contains(out, "192.0.2.0/24   operator") {
		t.Errorf("deny list: %s", out)
	}
	ctl("deny", "del", "192.0.2.0/24")
	must(t, dialVIP(s))
}

// The ConfigMap is followed while the agent runs, and a mistake in it is told by its line.
func TestDefenceConfigMap(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--defence-configmap", "kerngate/defence")
	s.start()
	declare := func(deny string) {
		t.Helper()
		must(t, s.Manifests.WriteText("defence.yaml", `apiVersion: v1
kind: ConfigMap
metadata: {name: defence, namespace: kerngate}
data:
  deny: `+fmt.Sprintf("%q", deny)+"\n"))
	}
	must(t, dialVIP(s))
	declare("192.0.2.0/24 # the lab\n192.0.2.300\n")
	must(t, lab.Until(10*time.Second, "silence for a denied client", func() error { return shutOut(s) }))
	out, err := s.Ctl("problems")
	if must(t, err); !strings.Contains(out, "kerngate/defence") || !strings.Contains(out, `data["deny"] line 2: "192.0.2.300" is not a prefix`) {
		t.Errorf("problems: %s", out)
	}
	declare("")
	must(t, lab.Until(10*time.Second, "answer for a client that is denied no more", func() error { return dialVIP(s) }))
}

// What an operator sees of a client whose packets are dropped.
func TestWatchAndTop(t *testing.T) {
	s := newSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	client := s.lab.Client.IPv4.String()
	_, err := s.Ctl("deny", "add", client)
	must(t, err)
	knock := func(args ...string) string {
		t.Helper()
		type answer struct {
			out string
			err error
		}
		done := make(chan answer, 1)
		go func() {
			out, err := s.Ctl(args...)
			done <- answer{out, err}
		}()
		for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
			select {
			case a := <-done:
				must(t, a.err)
				return a.out
			default:
				must(t, shutOut(s))
			}
		}
		t.Fatalf("kerngatectl %v does not end", args)
		return ""
	}

	var event struct{ Program, Reason, Interface, Source, Destination, Protocol string }
	out := knock("watch", "--count", "1", "--reason", "denied", "--source", client, "-o", "json")
	must(t, json.Unmarshal([]byte(out), &event))
	if event.Reason != "denied" || !strings.HasPrefix(event.Source, client+":") || event.Protocol != "TCP" ||
		event.Destination != netip.AddrPortFrom(s.lab.VIP4, 80).String() || event.Interface == "" {
		t.Errorf("event %+v", event)
	}

	var load struct {
		Packets []struct {
			Reason    string
			Dropped   bool
			PerSecond float64
		}
		Sources []struct {
			Source    string
			PerSecond float64
			Reasons   []string
		}
	}
	out = knock("top", "-n", "1", "--interval", "2s", "-o", "json")
	must(t, json.Unmarshal([]byte(out), &load))
	if len(load.Packets) == 0 || load.Packets[0].Reason != "denied" || !load.Packets[0].Dropped || load.Packets[0].PerSecond <= 0 {
		t.Errorf("packets %+v, want those denied first", load.Packets)
	}
	if len(load.Sources) != 1 || load.Sources[0].Source != client || load.Sources[0].PerSecond <= 0 {
		t.Errorf("sources %+v, want %s", load.Sources, client)
	}
}
