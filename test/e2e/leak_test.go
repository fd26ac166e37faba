//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/test/lab"
)

// TestLeaks: services come and go a thousand times, and the agent is killed or stopped and
// started again; at the end the node has what it had at the start: entries of maps, pins,
// programs, links, routes, addresses, netfilter rules, descriptors, memory.
//
// Restarts are fewer, because each loads and verifies all programs: what leaks does so each
// time, and one descriptor, pin or program more after any of them fails the test.
func TestLeaks(t *testing.T) {
	const cycles, kills, stops = 1000, 30, 3
	s := prepareSite(t, 1, []app{{"web", 2}}, lab.Path{Host: webHost, Service: "web"})
	echo, err := s.lab.Nodes[0].AddPod("echo-1")
	must(t, err)
	// A service that is gone keeps its place for ten seconds, in which hundreds go here.
	s.Args = append(s.Args, "--max-slots", strconv.Itoa(1<<20), "--deny", "198.51.100.0/24", "--log-level", "warn")
	s.Env = append(s.Env, "GOGC=25") // small leaks show: see memory
	s.start()
	c := &coming{site: s, echo: echo}

	// 1. Everything once, so that what is made on first use is there.
	for range 50 {
		c.cycle()
	}
	c.leave()
	first := c.settled()
	// A worker keeps a connection to a pod for a minute after its last request. What leaks does
	// so more often than there are workers (two) and pods.
	first["descriptor of kerngate-proxy: socket"] += 2 * len(s.pods["web"])
	started := c.memory(50)

	// 2. Services come and go.
	for c.n < cycles {
		c.cycle()
	}
	c.leave()
	c.same("after the services", first)
	ended := c.memory(50)
	for what, before := range started {
		report(t, "%s: %d KiB after 100 cycles, %d KiB after %d", what, before>>10, ended[what]>>10, c.n)
		if grown := ended[what] - before; grown > 1<<20 { // a kilobyte for each
			t.Errorf("%s: %d bytes more after %d cycles", what, grown, c.n)
		}
	}

	// 3. The agent is killed, and its proxy goes on with the next one; each time something
	// has changed meanwhile.
	c.leave()
	for i := range kills {
		s.Agent.Kill()
		if i%2 == 0 {
			c.come()
		} else {
			c.leave()
		}
		must(t, s.Kerngate.Start())
		c.seen()
	}
	c.leave()
	c.same("after the agent was killed", first)

	// 4. The agent is stopped, and the proxy with it.
	for range stops {
		must(t, s.Agent.Stop(20*time.Second))
		must(t, s.Kerngate.Start())
		must(t, s.WaitServing(s.lab.Client, 20*time.Second))
	}
	c.same("after the agent was stopped", first)
}

// coming is a site where further services come and go, each under a name of its own: one
// behind an Ingress, and one that the kernel forwards.
type coming struct {
	*site
	echo *lab.Pod
	n    int // services so far
	here bool
}

// cycle has the last service replaced by the next; now and then there is none between.
func (c *coming) cycle() {
	c.t.Helper()
	if c.n%10 == 9 {
		c.leave()
		c.seen()
	}
	c.come()
	c.seen()
	if c.n%10 == 5 {
		url := fmt.Sprintf("http://coming-%d.example.com/", c.n)
		c.eventually(url, "the service that has come", func(r *reply) bool { return r.Status == 200 })
	}
}

func (c *coming) come() {
	c.t.Helper()
	c.n, c.here = c.n+1, true
	name := fmt.Sprintf("coming-%d", c.n)
	objects := []lab.Object{
		lab.Ingress(name, lab.Path{Host: name + ".example.com", Service: name}),
		lab.Service(name), lab.EndpointSlice(name, c.pods["web"][c.n%2].Endpoint(false)),
	}
	for _, o := range l4Objects(lab.Object{"ports": []lab.Object{{"name": "echo", "port": c.port(), "protocol": "TCP"}}}, c.echo) {
		meta := o["metadata"].(lab.Object)
		if meta["name"] = strings.Replace(meta["name"].(string), "echo", name+"-echo", 1); o["kind"] == "EndpointSlice" {
			meta["labels"] = lab.Object{"kubernetes.io/service-name": name + "-echo"}
		}
		objects = append(objects, o)
	}
	must(c.t, c.Manifests.Write("coming.yaml", objects...))
}

// port is where the L4 service of now is published.
func (c *coming) port() int { return 20000 + c.n }

func (c *coming) leave() {
	c.t.Helper()
	if c.here {
		must(c.t, c.Manifests.Remove("coming.yaml"))
	}
	c.here = false
}

// seen waits until the maps hold what was written last.
func (c *coming) seen() {
	c.t.Helper()
	listeners, err := ebpf.LoadPinnedMap(c.Pins()+"/kg_listeners", &ebpf.LoadPinOptions{ReadOnly: true})
	must(c.t, err)
	defer listeners.Close()
	key := abi.MakeListenerKey(netip.AddrPortFrom(c.lab.VIP4, uint16(c.port())), 6)
	must(c.t, lab.Until(20*time.Second, fmt.Sprintf("listener on port %d: %v", c.port(), c.here), func() error {
		var l abi.Listener
		err := listeners.Lookup(&key, &l)
		if c.here != (err == nil) {
			return errors.Join(lab.ErrNotYet, err)
		}
		return nil
	}))
}

// settled waits until what is kept for a while has been given up, and returns what there is.
func (c *coming) settled() lab.Inventory {
	c.t.Helper()
	for _, client := range c.http {
		client.CloseIdleConnections()
	}
	var found lab.Inventory
	must(c.t, lab.Until(30*time.Second, "end of the services that have left", func() (err error) {
		// As the agent counts them: these have an entry for every index.
		const entries = "kerngate_kernel_map_entries"
		used := c.metrics(lab.MetricsAddress, entries)
		for table, most := range map[string]int{"kg_services": 1, "kg_slots": len(c.pods["web"]), "kg_backends": len(c.pods["web"])} {
			if n := used[entries+`{map="`+table+`"}`]; n != most {
				return fmt.Errorf("%d entries of %s are in use, want %d", n, table, most)
			}
		}
		if found, err = c.Inventory(); err != nil {
			return err
		}
		for name, n := range used {
			found[name] = n
		}
		pids, err := c.ProxyPIDs()
		for _, pid := range append(pids, c.Agent.PID) {
			err = errors.Join(err, lab.CountDescriptors(found, pid))
		}
		return err
	}))
	return found
}

// same fails the test unless there comes to be what there was before.
func (c *coming) same(when string, before lab.Inventory) {
	c.t.Helper()
	var different []string
	err := lab.Until(30*time.Second, "state as before", func() error {
		if different = c.settled().Differences(before); len(different) > 0 {
			return lab.ErrNotYet
		}
		return nil
	})
	if err != nil {
		c.t.Errorf("%s:\n%s", when, strings.Join(different, "\n"))
	}
}

// memory returns the bytes that are alive in agent and proxy, the least seen in so many cycles.
func (c *coming) memory(cycles int) map[string]int {
	c.t.Helper()
	least := make(map[string]int)
	for range cycles {
		c.cycle()
		for process, address := range map[string]string{"agent": lab.MetricsAddress, "proxy": lab.ProxyMetricsAddress} {
			// What is alive after a collection decides when the next one is due: with
			// GOGC=25 at a quarter more. Garbage does not blur it.
			live := c.metrics(address, "go_memstats_next_gc_bytes")["go_memstats_next_gc_bytes"] * 100 / 125
			if have, ok := least[process]; !ok || live < have {
				least[process] = live
			}
		}
	}
	return least
}

// metrics returns the values of metrics whose lines begin so.
func (c *coming) metrics(address string, prefixes ...string) map[string]int {
	c.t.Helper()
	client := c.Node.HTTPClient(netip.MustParseAddrPort(address))
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + address + "/metrics")
	must(c.t, err)
	defer response.Body.Close()
	found := make(map[string]int)
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		must(c.t, err)
		found[name] = int(number)
	}
	return found
}
