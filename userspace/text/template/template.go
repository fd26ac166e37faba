// Package template reads the texts of policies in which values of a request may stand, such
// as "https://$host$request_uri". In: text. Out: its parts, which whoever knows the request
// puts together. Both planes link it: one to say at once what is wrong with a text, the
// other to fill it in.
package template

import (
	"fmt"
	"slices"
	"strings"
)

// Value is a value of a request.
type Value uint8

const (
	Literal           Value = iota // Part.Text itself
	Host                           // $host: lower case, no port
	Authority                      // $http_host: as sent
	Scheme                         // $scheme
	Path                           // $uri: normalised, with its escapes
	Target                         // $request_uri: path and query as sent
	Query                          // $args, $query_string
	QuestionMark                   // $is_args: "?" if there is a query
	Method                         // $request_method
	ClientAddress                  // $remote_addr
	Port                           // $server_port
	Field                          // $http_NAME: Part.Text is the field's name in lower case
	Cookie                         // $cookie_NAME
	Argument                       // $arg_NAME: of the query, as sent
	EscapedTarget                  // $escaped_request_uri: $request_uri, every reserved character as %XX
	User                           // $remote_user: whose password was verified, "" if nobody's was
	RequestID                      // $req_id: the client's X-Request-ID if it is a sane one, else OwnID
	OwnID                          // $request_id: 32 hexadecimal digits that the proxy has made
	ForwardedFor                   // $proxy_add_x_forwarded_for: the X-Forwarded-For that pods get
	ClientCertificate              // $ssl_client_escaped_cert: PEM, escaped; "" if the client has shown none
	AnswerStatus                   // $auth_answer_status: of the external auth service, "" if it was not asked
	AnswerField                    // $auth_answer_http_NAME: a header of its answer; Part.Text is its name in lower case
	AnswerCookie                   // $auth_answer_cookie_NAME: a cookie that its answer sets
	Service                        // $service_name: it and the four below are replaced by text for each route, before a proxy sees them
	ServicePort                    // $service_port: as the Ingress names it
	Namespace                      // $namespace: of the Ingress
	Ingress                        // $ingress_name
	ServerName                     // $server_name: the host of the rule
	Variable                       // $set_NAME: what a step has set NAME to; Part.Text is it
	Group                          // $1 to $9: Part.Text is the digit; of ParseGroups alone
)

var values = map[string]Value{
	"host": Host, "http_host": Authority, "best_http_host": Authority, "scheme": Scheme, "pass_access_scheme": Scheme,
	"uri": Path, "request_uri": Target, "args": Query, "query_string": Query, "is_args": QuestionMark,
	"request_method": Method, "remote_addr": ClientAddress, "the_real_ip": ClientAddress, "binary_remote_addr": ClientAddress,
	"server_port": Port, "pass_server_port": Port,
	"document_uri": Path, "escaped_request_uri": EscapedTarget, "remote_user": User, "req_id": RequestID, "request_id": OwnID,
	"proxy_add_x_forwarded_for": ForwardedFor, "ssl_client_escaped_cert": ClientCertificate, "auth_answer_status": AnswerStatus,
	"service_name": Service, "service_port": ServicePort, "namespace": Namespace, "ingress_name": Ingress, "server_name": ServerName,
}

// prefixed are the values whose names end in a name of the author's choice.
var prefixed = []struct {
	prefix string
	value  Value
}{
	{"http_", Field}, {"cookie_", Cookie}, {"arg_", Argument},
	{"auth_answer_http_", AnswerField}, {"auth_answer_cookie_", AnswerCookie}, {"set_", Variable},
}

// Part is a piece of a template.
type Part struct {
	Value Value
	Text  string // of Literal, Field, Cookie, Argument, AnswerField, AnswerCookie, Variable and Group
}

// Template is a text that was read. The zero value is the empty text.
type Template []Part

// MaxLength is the length in bytes of the longest text, and maxParts the number of its
// parts: what a template grows to is bounded by them and by the size of a request's head.
const (
	MaxLength = 4096
	maxParts  = 32
)

// Parse reads a text. It refuses control characters, so that what is made of a template
// never ends a line, and values that it does not know.
func Parse(text string) (Template, error) { return parse(text, 0) }

// ParseGroups is Parse for a text in which what an expression's groups have matched may
// stand, of which there are so many.
func ParseGroups(text string, groups int) (Template, error) { return parse(text, min(groups, 9)) }

// ParseText is ParseGroups for a text that stands in a body, where lines end and tabs stand.
// No value of a request brings either.
func ParseText(text string, groups int) (Template, error) {
	if err := checkLength(text); err != nil {
		return nil, err
	}
	if err := checkControl(strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(text)); err != nil {
		return nil, err
	}
	return parts(text, min(groups, 9))
}

func checkLength(text string) error {
	if len(text) > MaxLength {
		return fmt.Errorf("%d bytes are more than %d", len(text), MaxLength)
	}
	return nil
}

func checkControl(text string) error {
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("control character %q is not allowed", text[i])
	}
	return nil
}

func parse(text string, groups int) (Template, error) {
	if err := checkLength(text); err != nil {
		return nil, err
	}
	if err := checkControl(text); err != nil {
		return nil, err
	}
	return parts(text, groups)
}

func parts(text string, groups int) (Template, error) {
	var t Template
	for text != "" {
		literal, rest, found := strings.Cut(text, "$")
		if literal != "" {
			t = append(t, Part{Text: literal})
		}
		if !found {
			break
		}
		if groups > 0 && rest != "" && rest[0] >= '1' && rest[0] <= '9' {
			if int(rest[0]-'0') > groups {
				return nil, fmt.Errorf("there is no group $%c", rest[0])
			}
			t = append(t, Part{Value: Group, Text: rest[:1]})
			text = rest[1:]
			continue
		}
		name, after, err := cutName(rest)
		if err != nil {
			return nil, err
		}
		part, ok := partOf(name)
		if !ok {
			return nil, fmt.Errorf("$%s is not a value of a request that can be used here: there are %s", name, strings.Join(Names(), ", "))
		}
		t = append(t, part)
		text = after
	}
	if len(t) > maxParts {
		return nil, fmt.Errorf("%d parts are more than %d", len(t), maxParts)
	}
	return t, nil
}

// cutName cuts NAME or {NAME} from the beginning of text.
func cutName(text string) (name, rest string, err error) {
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		name, rest, ok = strings.Cut(inner, "}")
		if !ok {
			return "", "", fmt.Errorf("a } is missing after ${")
		}
	} else {
		n := 0
		for n < len(text) && isName(text[n]) {
			n++
		}
		name, rest = text[:n], text[n:]
	}
	if name == "" {
		return "", "", fmt.Errorf("a $ must be followed by the name of a value")
	}
	return name, rest, nil
}

func isName(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func partOf(name string) (Part, bool) {
	if v, ok := values[name]; ok {
		return Part{Value: v}, true
	}
	if name == "content_type" {
		return Part{Value: Field, Text: "content-type"}, true
	}
	for _, p := range prefixed {
		rest, ok := strings.CutPrefix(name, p.prefix)
		if !ok || rest == "" || strings.ContainsFunc(rest, func(r rune) bool { return r >= 0x80 || !isName(byte(r)) }) {
			continue
		}
		if p.value == Field || p.value == AnswerField {
			rest = strings.ReplaceAll(strings.ToLower(rest), "_", "-")
		}
		return Part{Value: p.value, Text: rest}, true
	}
	return Part{}, false
}

// Known reports whether a name is that of a value.
func Known(name string) bool {
	_, ok := partOf(name)
	return ok
}

// Names returns the names of all values, sorted.
func Names() []string {
	names := []string{"$content_type"}
	for _, p := range prefixed {
		if p.value == Variable {
			continue // nobody but steps sets one
		}
		names = append(names, "$"+p.prefix+"NAME")
	}
	for name := range values {
		names = append(names, "$"+name)
	}
	slices.Sort(names)
	return names
}

// Constant returns the text if no value of a request is in it.
func (t Template) Constant() (text string, ok bool) {
	switch {
	case len(t) == 0:
		return "", true
	case len(t) == 1 && t[0].Value == Literal:
		return t[0].Text, true
	}
	return "", false
}
