package check

import (
	"encoding/json"
	"strings"
)

// SARIF returns errors and warnings in the Static Analysis Results Interchange Format 2.1.0,
// which code hosts show beside the lines that they are about. The outcomes of Ingresses and
// the notes are properties of the run.
func (r Report) SARIF(version string) ([]byte, error) {
	type message struct {
		Text string `json:"text"`
	}
	type region struct {
		StartLine int `json:"startLine"`
	}
	type artifact struct {
		URI string `json:"uri"`
	}
	type physical struct {
		Artifact artifact `json:"artifactLocation"`
		Region   region   `json:"region"`
	}
	type location struct {
		Physical physical `json:"physicalLocation"`
	}
	type result struct {
		RuleID    string     `json:"ruleId"`
		Level     string     `json:"level"`
		Message   message    `json:"message"`
		Locations []location `json:"locations"`
	}
	type driver struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	type tool struct {
		Driver driver `json:"driver"`
	}
	type properties struct {
		Ingresses []Ingress `json:"ingresses"`
		Notes     []string  `json:"notes"`
	}
	type run struct {
		Tool       tool       `json:"tool"`
		Results    []result   `json:"results"`
		Properties properties `json:"properties"`
	}
	results := []result{}
	for _, f := range r.Findings {
		if f.Level == Note {
			continue
		}
		rule, text := strings.ToLower(f.Verdict[:1])+f.Verdict[1:], f.Message
		if f.Key != "" {
			rule, text = "annotation-"+f.Verdict, f.Key+": "+text
		}
		if f.Object != "" {
			text = f.Object + ": " + text
		}
		results = append(results, result{
			RuleID: rule, Level: string(f.Level), Message: message{text},
			Locations: []location{{physical{artifact{f.File}, region{max(f.Line, 1)}}}},
		})
	}
	return json.MarshalIndent(struct {
		Schema  string `json:"$schema"`
		Version string `json:"version"`
		Runs    []run  `json:"runs"`
	}{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []run{{tool{driver{"kerngatectl check", version}}, results, properties{r.Ingresses, r.Notes}}}}, "", "  ")
}
