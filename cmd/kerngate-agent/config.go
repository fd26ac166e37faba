package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// readConfig sets flags from a YAML file that takes the same names. What was given on the
// command line goes before it; lists are for repeatable flags.
func readConfig(path string, set *pflag.FlagSet) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var content any
	if err := yaml.UnmarshalStrict(raw, &content); err != nil {
		return fmt.Errorf("--config %s: %s", path, oneLine(err.Error()))
	}
	values, isMapping := content.(map[string]any)
	if !isMapping && content != nil {
		return fmt.Errorf("--config %s: want lines of the form NAME: VALUE, where NAME is a flag without --", path)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		flag := set.Lookup(name)
		if flag == nil || name == "config" || strings.HasPrefix(name, "uninstall") || name == "help" || name == "version" {
			return fmt.Errorf("--config %s: there is no setting %q", path, name)
		}
		if flag.Changed {
			continue
		}
		list, isList := values[name].([]any)
		if !isList {
			list = []any{values[name]}
		} else if t := flag.Value.Type(); t != "stringArray" && t != "stringSlice" {
			return fmt.Errorf("--config %s: %s takes one value, not a list", path, name)
		}
		for _, value := range list {
			text, err := scalar(value)
			if err == nil {
				err = set.Set(name, text)
			}
			if err != nil {
				return fmt.Errorf("--config %s: %s: %s", path, name, oneLine(err.Error()))
			}
		}
	}
	return nil
}

// scalar returns a YAML value as a flag would have it.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case float64: // every number, since YAML is read as JSON
		if v == float64(int64(v)) {
			return fmt.Sprint(int64(v)), nil
		}
		return fmt.Sprint(v), nil
	}
	return "", fmt.Errorf("%v is neither text, number nor true or false", value)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
