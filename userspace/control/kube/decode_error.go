package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// plainError says in the words of YAML what a parser says in those of Go's types.
func plainError(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return errors.New(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: json: "))
	}
	// An embedded struct is no level of the document, and alone begins with a capital letter.
	path := slices.DeleteFunc(strings.Split(wrong.Field, "."), func(name string) bool { return name == "" || 'A' <= name[0] && name[0] <= 'Z' })
	if len(path) == 0 {
		return err
	}
	return fmt.Errorf("%s is %s, not %s", strings.Join(path, "."), kindOfJSON(wrong.Value), kindOfType(wrong.Type))
}

// notAnObject says what a document or an item is that no object can be read from, nil if it is a
// mapping.
func notAnObject(document []byte) error {
	var value any
	if err := yaml.Unmarshal(document, &value); err != nil {
		return err
	}
	var is string
	switch value.(type) {
	case map[string]any:
		return nil
	case nil:
		is = "null"
	case []any:
		is = "array"
	case string:
		is = "string"
	case bool:
		is = "bool"
	default:
		is = "number"
	}
	return fmt.Errorf("this is %s, not a Kubernetes object", kindOfJSON(is))
}

func kindOfJSON(kind string) string {
	kind, _, _ = strings.Cut(kind, " ") // "number 1.5"
	switch kind {
	case "array":
		return "a list"
	case "object":
		return "a mapping"
	case "string":
		return "text"
	case "bool":
		return "true or false"
	case "null":
		return "null"
	}
	return "a " + kind
}

func kindOfType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	}
	return "a whole number"
}
