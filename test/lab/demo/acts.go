//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/answer"
)

// startAgent starts the agent on a copy of the manifests, which the demo may then edit.
func (d *demo) startAgent(manifests string) error {
	files, err := filepath.Glob(filepath.Join(manifests, "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no manifests in %s: %w", manifests, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := d.kerngate.Manifests.WriteText(filepath.Base(file), string(text)); err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := d.kerngate.Start(); err != nil {
		return err
	}
	if err := d.kerngate.WaitServing(d.lab.Client, 30*time.Second); err != nil {
		return err
	}
	fmt.Printf("   The agent loaded its BPF programs, started the proxy as user %d without any capability,\n"+
		"   and %s answers after %d ms.\n", lab.ProxyUser, d.lab.VIP4, time.Since(begin).Milliseconds())
	return nil
}

// expectation is a kind of request and what must answer it.
type expectation struct {
	host, path string
	times      int
	pods       []string // every one of them, and no other; none: the status
	status     int
}

// manyTimes is enough for every one of three pods to be chosen: a random choice leaves one
// out in three of ten million shows.
const manyTimes = 40

// ask sends the requests of the show and prints who answered.
func (d *demo) ask() error {
	heading("The client asks; who answers?")
	introduction := []string{"intro-1", "intro-2", "intro-3"}
	information := []string{"info-1", "info-2"}
	return d.check([]expectation{
		{"host.example.com", "/intro", manyTimes, introduction, 200},
		{"host.example.com", "/intro/chapter/1?page=2", manyTimes, introduction, 200},
		{"host.example.com", "/info", manyTimes, information, 200},
		{"host.example.com", "/introduction", 1, nil, 404},
		{"host.example.com", "/", 1, nil, 404},
		{"unknown.example.org", "/intro", 1, nil, 404},
	})
}

// change edits an EndpointSlice while the agent runs.
func (d *demo) change() error {
	heading("Endpoints change: info-1 leaves, and comes back")
	file := "info.yaml"
	whole, err := os.ReadFile(filepath.Join(string(d.kerngate.Manifests), file))
	if err != nil {
		return err
	}
	const ready = `name: info-1}
    conditions: {ready: true}`
	if !strings.Contains(string(whole), ready) {
		return fmt.Errorf("%s does not say where info-1 is ready", file)
	}
	without := strings.Replace(string(whole), ready, strings.Replace(ready, "true", "false", 1), 1)
	for _, step := range []struct {
		text, does string
		pods       []string
	}{
		{without, "info-1 not ready", []string{"info-2"}},
		{string(whole), "info-1 ready again", []string{"info-1", "info-2"}},
	} {
		begin := time.Now()
		if err := d.kerngate.Manifests.WriteText(file, step.text); err != nil {
			return err
		}
		err := lab.Until(5*time.Second, "answers of the pods that are ready", func() error {
			answered, err := d.answers("host.example.com", "/info", manyTimes)
			if err == nil && !slices.Equal(slices.Sorted(maps.Keys(answered)), step.pods) {
				err = fmt.Errorf("answered: %v", answered)
			}
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("   %s in %s: in force within %d ms, while the proxy ran on\n", step.does, file, time.Since(begin).Milliseconds())
		if err := d.check([]expectation{{"host.example.com", "/info", manyTimes, step.pods, 200}}); err != nil {
			return err
		}
	}
	return nil
}

// check sends requests and prints a table of who answered.
func (d *demo) check(wanted []expectation) error {
	rows := [][]string{{"REQUEST", "TIMES", "ANSWERED BY", "CLIENT AS THE POD SAW IT", ""}}
	vips := []netip.Addr{d.lab.VIP4}
	if d.lab.VIP6.IsValid() {
		vips = append(vips, d.lab.VIP6)
	}
	for _, want := range wanted {
		for _, vip := range vips {
			row := d.checkOne(vip, want)
			rows = append(rows, row)
			if strings.HasPrefix(row[len(row)-1], "WRONG") {
				d.wrong = append(d.wrong, row[0])
			}
		}
	}
	table(rows)
	return nil
}

func (d *demo) checkOne(vip netip.Addr, want expectation) []string {
	answered := make(map[string]int)
	seen := make(map[string]int)
	var wrong string
	for range want.times {
		status, pod, err := d.request(vip, want.host, want.path)
		switch {
		case err != nil:
			wrong = err.Error()
		case status != want.status:
			wrong = fmt.Sprintf("status %d", status)
		case pod == nil:
			answered[fmt.Sprintf("%d by Kerngate", status)]++
		default:
			answered[pod.Pod]++
			seen[pod.Headers.Get("X-Forwarded-For")]++
		}
	}
	client := d.lab.Client.IPv4.String()
	if vip.Is6() {
		client = d.lab.Client.IPv6.String()
	}
	if wrong == "" && len(want.pods) > 0 {
		if got := slices.Sorted(maps.Keys(answered)); !slices.Equal(got, want.pods) {
			wrong = fmt.Sprintf("want %v", want.pods)
		} else if len(seen) != 1 || seen[client] == 0 {
			wrong = "want the client " + client
		}
	}
	verdict := "ok"
	if wrong != "" {
		verdict = "WRONG: " + wrong
	}
	address := "IPv4"
	if vip.Is6() {
		address = "IPv6"
	}
	return []string{
		fmt.Sprintf("http://%s%s (%s)", want.host, want.path, address), fmt.Sprint(want.times),
		list(answered), strings.Join(slices.Sorted(maps.Keys(seen)), ", "), verdict,
	}
}

func list(counts map[string]int) string {
	var items []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		items = append(items, fmt.Sprintf("%s x %d", key, counts[key]))
	}
	return strings.Join(items, ", ")
}

// answers counts which pods answer.
func (d *demo) answers(host, path string, times int) (map[string]int, error) {
	answered := make(map[string]int)
	for range times {
		_, pod, err := d.request(d.lab.VIP4, host, path)
		if err != nil {
			return nil, err
		}
		if pod != nil {
			answered[pod.Pod]++
		}
	}
	return answered, nil
}

// request sends one request on a connection of its own, as different clients would. The
// answer is nil if no pod gave it.
func (d *demo) request(vip netip.Addr, host, path string) (int, *answer.Answer, error) {
	d.asked++
	client := d.lab.Client.HTTPClient(netip.AddrPortFrom(vip, 80))
	client.Timeout = 5 * time.Second
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + host + path)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.Header.Get("X-Pod") == "" {
		return response.StatusCode, nil, err
	}
	var pod answer.Answer
	return response.StatusCode, &pod, json.Unmarshal(body, &pod)
}

// explain lets kerngatectl tell why.
func (d *demo) explain() error {
	heading("Why does a request go where it goes?")
	for _, url := range []string{"http://host.example.com/intro", "http://unknown.example.org/intro"} {
		command("kerngatectl explain " + url)
		out, err := d.kerngate.Ctl("explain", url)
		if err != nil {
			return err
		}
		quote(out)
	}
	return nil
}

// maps shows what the kernel holds.
func (d *demo) maps() error {
	heading("What the kernel's maps hold")
	for _, noun := range []string{"services", "backends"} {
		command("kerngatectl " + noun)
		out, err := d.kerngate.Ctl(noun)
		if err != nil {
			return err
		}
		quote(out)
	}
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		fmt.Println("   " + dim("(bpftool is not installed; it would show the same maps, pinned in "+d.kerngate.Pins()+")"))
		return nil
	}
	fmt.Println("   " + dim("Raw: ports and addresses are in network byte order; a block is offset, count and generation in one word."))
	for _, name := range []string{"kg_listeners", "kg_services"} {
		pin, err := findPin(d.kerngate.Pins(), name)
		if err != nil {
			return err
		}
		command("bpftool map dump pinned " + pin)
		out, err := d.lab.Nodes[0].Run(lab.Command{Path: bpftool, Args: []string{"map", "dump", "pinned", pin}})
		if err != nil {
			return err
		}
		quote(used(out))
	}
	return nil
}

// findPin finds a map below the pin folder, whose inner order is the loader's business.
func findPin(dir, name string) (string, error) {
	var found string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == name {
			found = path
		}
		return err
	})
	if err == nil && found == "" {
		err = errors.New("no map " + name + " is pinned below " + dir)
	}
	return found, err
}

// used shortens bpftool's JSON dump to one line for each entry that is not all zero.
func used(dump string) string {
	var entries []struct{ Key, Value json.RawMessage }
	if err := json.Unmarshal([]byte(dump), &entries); err != nil {
		return dump // plain text: bpftool found no BTF, or is of another age
	}
	var lines []string
	for _, entry := range entries {
		value := compact(entry.Value)
		if strings.ContainsAny(strings.Trim(digits(value), "0"), "123456789") {
			lines = append(lines, compact(entry.Key)+" -> "+value)
		}
	}
	lines = append(lines, fmt.Sprintf("(%d entries in use of %d)", len(lines), len(entries)))
	return strings.Join(lines, "\n")
}

func compact(raw json.RawMessage) string {
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return string(raw)
	}
	text, _ := json.Marshal(value)
	return string(text)
}

// digits keeps the digits of a JSON text that stand in values.
func digits(text string) string {
	var kept strings.Builder
	inName := false
	for _, c := range text {
		if c == '"' {
			inName = !inName
		}
		if !inName && c >= '0' && c <= '9' {
			kept.WriteRune(c)
		}
	}
	return kept.String()
}
