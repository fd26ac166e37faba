package manifests

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the table of values in chart/README.md")

// value is a leaf of values.yaml: one with a comment above it.
type value struct{ path, initial, meaning string }

// values reads values.yaml with its comments.
func values(t *testing.T) (leaves []value) {
	t.Helper()
	text, err := os.ReadFile("chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, n *yamlv3.Node)
	walk = func(prefix string, n *yamlv3.Node) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, v := n.Content[i], n.Content[i+1]
			path := prefix + key.Value
			comment := strings.TrimSpace(strings.TrimPrefix(key.HeadComment, "#"))
			if v.Kind == yamlv3.MappingNode && len(v.Content) > 0 && (comment == "" || i == 0 && prefix == "") {
				walk(path+".", v)
				continue
			}
			if comment == "" || strings.Contains(comment, "\n") {
				t.Errorf("%s: its comment in values.yaml is not one line: %q", path, comment)
			}
			var plain any
			if err := v.Decode(&plain); err != nil {
				t.Fatal(err)
			}
			initial, err := json.Marshal(plain)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, value{path, string(initial), comment})
		}
	}
	walk("", root.Content[0])
	return leaves
}

// TestTableOfValues compares the table of chart/README.md with values.yaml; -update writes it.
func TestTableOfValues(t *testing.T) {
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n| --- | --- | --- |\n")
	for _, v := range values(t) {
		fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", v.path, v.initial, v.meaning)
	}
	const file, begin, end = "chart/README.md", "<!-- begin values -->\n", "<!-- end values -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no part for the values", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != table.String() {
		t.Errorf("%s is not what values.yaml says; go test ./manifests -run TestTableOfValues -update mends it. Want:\n%s", file, table.String())
	}
}

// schema is a part of a JSON schema, as far as it is read here.
type schema struct {
	Properties map[string]schema `json:"properties"`
	Additional any               `json:"additionalProperties"`
}

// TestSchemaKnowsTheValues: a value that the schema lacks could be set by nobody, and one that only
// the schema has would be accepted and change nothing.
func TestSchemaKnowsTheValues(t *testing.T) {
	text, err := os.ReadFile("chart/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, v := range values(t) {
		known[v.path] = true
		at := root
		for key := range strings.SplitSeq(v.path, ".") {
			next, ok := at.Properties[key]
			if !ok {
				t.Errorf("values.schema.json lacks %s", v.path)
			}
			at = next
		}
	}
	var walk func(prefix string, s schema)
	walk = func(prefix string, s schema) {
		for key, below := range s.Properties {
			path := prefix + key
			if path == "global" || known[path] {
				continue // helm gives every chart the value global
			}
			if len(below.Properties) == 0 {
				t.Errorf("values.schema.json has %s, which values.yaml lacks", path)
			}
			walk(path+".", below)
		}
		if prefix != "config." && s.Additional != false {
			t.Errorf("values.schema.json lets %q have values that nothing reads", prefix)
		}
	}
	walk("", root)
}

// TestValuesAreUsed: each value is read by a template.
func TestValuesAreUsed(t *testing.T) {
	var templates strings.Builder
	files, err := filepath.Glob("chart/templates/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d templates: %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		templates.Write(text)
	}
	for _, v := range values(t) {
		path := v.path
		switch {
		case strings.HasPrefix(path, "config."):
			path = "config"
		case strings.HasPrefix(path, "image.agent."), strings.HasPrefix(path, "image.proxy."):
			// By kerngate.image, which gets the part of one image.
			path = "image." + strings.Split(path, ".")[1]
			if leaf := "$image." + v.path[len(path)+1:]; !strings.Contains(templates.String(), leaf) {
				t.Errorf("no template reads %s", leaf)
			}
		}
		if !regexp.MustCompile(`Values\.` + regexp.QuoteMeta(path) + `\b`).MatchString(templates.String()) {
			t.Errorf("no template reads %s", v.path)
		}
	}
}

// TestChartIsTrue: what Chart.yaml says for people and for Artifact Hub.
func TestChartIsTrue(t *testing.T) {
	text, err := os.ReadFile("chart/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct {
		Name, Version, AppVersion, KubeVersion string
		Annotations                            map[string]string
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	operations, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	needed := regexp.MustCompile(`Needs Kubernetes (1\.\d+)`).FindSubmatch(operations)
	if needed == nil || chart.KubeVersion != ">="+string(needed[1])+".0-0" {
		t.Errorf("the chart needs Kubernetes %s, and docs/operations.md says %s", chart.KubeVersion, needed)
	}
	for _, key := range []string{"artifacthub.io/links", "artifacthub.io/changes"} {
		var list []map[string]string
		if err := yaml.Unmarshal([]byte(chart.Annotations[key]), &list); err != nil || len(list) == 0 {
			t.Errorf("%s: %d entries: %v", key, len(list), err)
		}
	}
	for _, m := range regexp.MustCompile(`blob/main/(\S+)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat("../" + m[1]); err != nil {
			t.Errorf("Chart.yaml links to what is not there: %v", err)
		}
	}
}

// exported are the metrics that agent and proxy have, of docs/reference.md, whose table a test there
// holds to the code; and those of the Go collectors that both register.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{"process_resident_memory_bytes": true, "process_cpu_seconds_total": true}
	for _, m := range regexp.MustCompile("(?m)^\\| `(kerngate_[a-z0-9_]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		names[m[1]] = true
	}
	if len(names) < 50 {
		t.Fatalf("docs/reference.md lists %d metrics", len(names))
	}
	return names
}

var metricName = regexp.MustCompile(`\b(kerngate|process|go)_[a-z0-9_]+\b`)

// TestMetricsOfAlertsExist: an alert on a metric that nothing exports never fires.
func TestMetricsOfAlertsExist(t *testing.T) {
	names := exported(t)
	text, err := os.ReadFile("chart/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checkMetrics(t, names, "alerts.yaml", string(text))
	if found := metricName.FindAllString(string(text), -1); len(found) < 14 {
		t.Errorf("%d metrics in alerts.yaml", len(found))
	}
}

func checkMetrics(t *testing.T, names map[string]bool, where, text string) {
	t.Helper()
	for _, name := range metricName.FindAllString(text, -1) {
		histogram := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		if !names[name] && !(histogram != name && names[histogram] && strings.HasSuffix(histogram, "_seconds")) {
			t.Errorf("%s: neither agent nor proxy exports %s", where, name)
		}
	}
}

// TestDashboards: their metrics exist, their panels have names, and the first has those of
// ingress-nginx's dashboard, by which people find what they are used to.
func TestDashboards(t *testing.T) {
	names := exported(t)
	files, err := filepath.Glob("chart/files/dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v: %v", files, err)
	}
	uids := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			UID    string
			Panels []struct {
				ID      int
				Title   string
				Targets []struct{ Expr string }
				GridPos struct{ X, Y, W, H int }
			}
			Templating struct{ List []struct{ Query string } }
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if board.UID == "" || uids[board.UID] {
			t.Errorf("%s: uid %q", f, board.UID)
		}
		uids[board.UID] = true
		titles := map[string]bool{}
		for _, p := range board.Panels {
			if p.Title == "" || titles[p.Title] || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %+v", f, p)
			}
			titles[p.Title] = true
			for _, target := range p.Targets {
				if !metricName.MatchString(target.Expr) {
					t.Errorf("%s, %s: no metric in %q", f, p.Title, target.Expr)
				}
				checkMetrics(t, names, f+", "+p.Title, target.Expr)
			}
		}
		for _, v := range board.Templating.List {
			checkMetrics(t, names, f, v.Query)
		}
		if filepath.Base(f) != "kerngate.json" {
			continue
		}
		for _, title := range []string{"Controller Request Volume", "Controller Connections", "Controller Success Rate (non-4|5xx responses)", "Config Reloads",
			"Last Config Failed", "Ingress Request Volume", "Ingress Success Rate (non-4|5xx responses)", "Network I/O pressure", "Average Memory Usage",
			"Average CPU Usage", "Ingress Percentile Response Times and Transfer Rates", "Ingress Certificate Expiry"} {
			if !titles[title] {
				t.Errorf("%s lacks the panel %q", f, title)
			}
		}
	}
}

// TestAlerts runs promtool over the alerts: their syntax, and which of them fire on the series of
// testdata/alerts_test.yaml.
func TestAlerts(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is missing: scripts/setup build installs it")
	}
	for _, args := range [][]string{{"check", "rules", "chart/files/alerts.yaml"}, {"test", "rules", "chart/testdata/alerts_test.yaml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	var rules struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	text, err := os.ReadFile("chart/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile("chart/testdata/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts[r.Alert] = true
			// Silent on the node that is well, and firing on the other (or where there is none).
			if strings.Count(string(cases), "alertname: "+r.Alert+",") < 1 || !strings.Contains(string(cases), `alertname="`+r.Alert+`"`) && r.Alert != "KerngateAbsent" {
				t.Errorf("testdata/alerts_test.yaml does not show when %s fires and when not", r.Alert)
			}
		}
	}
	if len(alerts) != 14 {
		t.Errorf("alerts %v", slices.Sorted(maps.Keys(alerts)))
	}
}
