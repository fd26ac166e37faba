package check

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// lines finds where fields of a document stand in its file.
type lines struct {
	root *yaml.Node // nil: not known
	from int        // line of the file where the document begins
}

func newLines(text []byte, from int) lines {
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil || len(root.Content) == 0 {
		return lines{from: from}
	}
	return lines{root.Content[0], from}
}

// of returns the line of a field of an item of a List ("items[2]"; "": of the document), or
// of what there is of the way to it. Elements may have an index: "rules[0]".
func (l lines) of(item string, path ...string) int {
	if l.root == nil {
		return l.from
	}
	if item != "" {
		path = append(strings.Split(item, "."), path...)
	}
	at, line := l.root, l.root.Line
	for _, element := range path {
		name, index, indexed := strings.Cut(element, "[")
		key, value := field(at, name)
		if value == nil {
			break
		}
		at, line = value, key.Line
		if !indexed {
			continue
		}
		i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if err != nil || at.Kind != yaml.SequenceNode || i >= len(at.Content) {
			break
		}
		at = at.Content[i]
		line = at.Line
	}
	return l.from + line - 1
}

// field returns the key and the value of a field of a mapping, nil if it is none.
func field(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// annotations are keys of ingress-nginx in a mapping, and the field that it is.
type annotations struct {
	field  string
	values map[string]string
}

// annotated returns the mappings of a document that have keys of ingress-nginx.
func (l lines) annotated() (out []annotations) {
	if l.root == nil {
		return nil
	}
	var walk func(n *yaml.Node, path []string)
	walk = func(n *yaml.Node, path []string) {
		switch n.Kind {
		case yaml.SequenceNode:
			for i, c := range n.Content {
				if len(path) > 0 {
					last := path[len(path)-1]
					walk(c, append(path[:len(path)-1:len(path)-1], last+"["+strconv.Itoa(i)+"]"))
				}
			}
		case yaml.MappingNode:
			values := map[string]string{}
			for i := 0; i+1 < len(n.Content); i += 2 {
				key, value := n.Content[i].Value, n.Content[i+1]
				if strings.HasPrefix(key, ingressnginx.Prefix) && value.Kind == yaml.ScalarNode {
					values[key] = value.Value
				}
				walk(value, append(path[:len(path):len(path)], key))
			}
			if len(values) > 0 {
				out = append(out, annotations{strings.Join(path, "."), values})
			}
		}
	}
	walk(l.root, nil)
	return out
}
