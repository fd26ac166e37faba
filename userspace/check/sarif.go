package check

import "encoding/json"

// SARIF returns what is not honoured as it is written in the Static Analysis Results
// Interchange Format 2.1.0, which code hosts show beside the lines that it is about.
func SARIF(rows []Row, version string) ([]byte, error) {
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
	type run struct {
		Tool    tool     `json:"tool"`
		Results []result `json:"results"`
	}
	results := []result{}
	for _, r := range rows {
		if !r.Refused() && !r.Differs() {
			continue
		}
		level := "note"
		if r.Refused() {
			level = "error"
		}
		results = append(results, result{
			RuleID: "annotation-" + r.Verdict, Level: level,
			Message:   message{"Ingress " + r.Ingress + ", " + r.Key + ": " + r.Message},
			Locations: []location{{physical{artifact{r.File}, region{r.Line}}}},
		})
	}
	return json.MarshalIndent(struct {
		Schema  string `json:"$schema"`
		Version string `json:"version"`
		Runs    []run  `json:"runs"`
	}{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []run{{tool{driver{"kerngatectl check", version}}, results}}}, "", "  ")
}
