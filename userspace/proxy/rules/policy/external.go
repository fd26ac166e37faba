package policy

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// External asks a service whether a request may go on, as nginx's auth_request does.
type External struct {
	To     Destination
	Method string // "": GET

	headers  []header
	response []string        // fields of the answer that pods get
	captures []template.Part // values of the answer that templates of the policy name
	signIn   template.Template
	redirect template.Template // X-Auth-Request-Redirect
	// joint is what goes between the URL to sign in at and the one asked for; "": the
	// former names the latter itself.
	joint string

	AlwaysSetCookie bool

	key  template.Template
	keep []cacheTime

	mu   sync.Mutex
	kept map[string]*Allowed // by the filled key
}

type cacheTime struct {
	status []uint32
	time   time.Duration
}

// Bounds of the answers that a rule keeps: 16 MiB of all workers together.
const (
	maxKept     = 4096    // answers; beyond, any of them makes room
	maxKeptSize = 4 << 10 // bytes of one with its key; a larger one is not kept
)

// Allowed is what the service has said about a request.
type Allowed struct {
	Status  int
	Fields  []AnswerField // in place of the client's, for the pod; an empty value leaves none
	Cookies []string      // Set-Cookie, for the client
	// Captured are the values of the answer that templates name, in the order of
	// External.captures.
	Captured []Captured
	// Challenge is the WWW-Authenticate of a 401.
	Challenge []string

	until time.Time
}

// size is about how many bytes the answer takes.
func (a *Allowed) size() (n int) {
	for _, f := range a.Fields {
		n += len(f.Value)
	}
	for _, c := range a.Challenge {
		n += len(c)
	}
	for _, c := range a.Captured {
		n += len(c.Value)
	}
	return n
}

// Captured is a value of an answer: of a header, or of a cookie that it sets.
type Captured struct {
	Part  template.Part
	Value string
}

// captured returns the value of a part, "" if there is none. a may be nil.
func (a *Allowed) captured(p template.Part) string {
	if a == nil {
		return ""
	}
	for i := range a.Captured {
		if a.Captured[i].Part == p {
			return a.Captured[i].Value
		}
	}
	return ""
}

// OK reports whether the request may go on.
func (a *Allowed) OK() bool { return a.Status >= 200 && a.Status < 300 }

func compileExternal(e *feedpb.ExternalAuth) (*External, error) {
	if e == nil {
		return nil, nil
	}
	out := &External{Method: e.Method, AlwaysSetCookie: e.AlwaysSetCookie, kept: map[string]*Allowed{}}
	var err error
	if out.To, err = compileDestination(e.To); err != nil {
		return nil, err
	}
	if out.headers, err = compileHeaders(e.Headers); err != nil {
		return nil, err
	}
	for _, name := range e.Response {
		if err := rule.FieldName(name); err != nil {
			return nil, err
		}
		out.response = append(out.response, http.CanonicalHeaderKey(name))
	}
	for _, pair := range []struct {
		text string
		into *template.Template
	}{{e.SignIn, &out.signIn}, {e.Redirect, &out.redirect}, {e.CacheKey, &out.key}} {
		if *pair.into, err = template.Parse(pair.text); err != nil {
			return nil, err
		}
	}
	out.joint = joint(e.SignIn, e.SignInParameter)
	for _, c := range e.CacheFor {
		out.keep = append(out.keep, cacheTime{c.Status, time.Duration(c.ForSeconds) * time.Second})
	}
	return out, nil
}

// joint returns "?rd=" or "&rd=", as the URL to sign in at has a query already or not.
func joint(url, parameter string) string {
	if parameter == "" {
		parameter = "rd"
	}
	_, query, any := strings.Cut(url, "?")
	switch {
	case !any:
		return "?" + parameter + "="
	case query == "":
		return parameter + "="
	}
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); name == parameter {
			return ""
		}
	}
	return "&" + parameter + "="
}

// hidden are the request's fields that the service does not get: they frame the body,
// which it does not get either, or tell what the proxy says itself.
var hidden = map[string]bool{
	"Host": true, "Content-Length": true, "Expect": true, "X-Original-Url": true, "X-Original-Uri": true,
	"X-Original-Method": true, "X-Sent-From": true, "X-Scheme": true, "X-Auth-Request-Redirect": true,
	"X-Real-Ip": true, "X-Request-Id": true, "Forwarded": true,
}

// hides reports whether a field of the request is kept from the service. Of X-Forwarded-*
// and ssl-client-* none is the client's to say: services take them for the proxy's word.
func hides(name string) bool {
	name = strings.ReplaceAll(name, "_", "-") // which services may not tell apart
	name = http.CanonicalHeaderKey(name)
	return hidden[name] || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Ssl-Client-")
}

// Head returns the fields of the question.
func (e *External) Head(q *Request, id []byte) http.Header {
	h := http.Header{}
	for i := range q.Fields {
		f := &q.Fields[i]
		if f.HopByHop {
			continue
		}
		if name := http.CanonicalHeaderKey(string(f.Name)); !hides(name) {
			h[name] = append(h[name], string(f.Value))
		}
	}
	client := q.Client.String()
	asked := string(q.fill(nil, askedURL))
	for name, value := range map[string]string{
		"X-Original-Url": asked, "X-Original-Method": string(q.Method), "X-Sent-From": "kerngate",
		"X-Real-Ip": client, "X-Forwarded-For": client, "X-Request-Id": string(id),
		"X-Auth-Request-Redirect": string(q.fill(nil, originalTarget)),
	} {
		h[name] = []string{value}
	}
	if e.Method != "" { // ingress-nginx adds these two with auth-method alone
		h["X-Original-Uri"] = []string{string(q.fill(nil, originalTarget))}
		h["X-Scheme"] = []string{string(q.fill(nil, scheme))}
	}
	if len(e.redirect) > 0 {
		h["X-Auth-Request-Redirect"] = []string{string(q.fill(nil, e.redirect))}
	}
	edit(nil, e.headers, q, httpHead(h))
	return h
}

// httpHead is a Head of net/http.
type httpHead http.Header

func (h httpHead) Has(lower string) bool         { return len(http.Header(h).Values(lower)) > 0 }
func (h httpHead) Add(name string, value []byte) { http.Header(h).Add(name, string(value)) }

func (h httpHead) Type() []byte { return []byte(http.Header(h).Get("Content-Type")) }
func (h httpHead) Status() int  { return 0 }
func (h httpHead) Clear(lower string) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return BeginsLike(name, lower) && !rule.ProxyOwn(name) })
}

// Drop also leaves out names that CGI takes for the same, as podHead does.
func (h httpHead) Drop(lower string) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return SameVariable(name, lower) })
}

var (
	askedURL       = mustParse("$scheme://$http_host$request_uri")
	askedHost      = mustParse("$http_host")
	originalTarget = mustParse("$request_uri")
	scheme         = mustParse("$scheme")
)

func mustParse(text string) template.Template {
	t, err := template.Parse(text)
	if err != nil {
		panic(err) // of our own texts
	}
	return t
}

// Read makes of an answer what is used of it.
func (e *External) Read(status int, h http.Header) *Allowed {
	a := &Allowed{Status: status}
	for _, v := range h["Set-Cookie"] {
		if rule.FieldValue(v) {
			a.Cookies = append(a.Cookies, v)
		}
	}
	if status == http.StatusUnauthorized {
		for _, v := range h["Www-Authenticate"] {
			if rule.FieldValue(v) {
				a.Challenge = append(a.Challenge, v)
			}
		}
	}
	for _, name := range e.response {
		// Several fields of a name are one, as RFC 9110 section 5.3 has it.
		value := strings.Join(h[name], ", ")
		if !rule.FieldValue(value) {
			value = ""
		}
		a.Fields = append(a.Fields, AnswerField{Name: name, Value: value})
	}
	for _, p := range e.captures {
		value := ""
		if p.Value == template.AnswerField {
			value = strings.Join(h.Values(p.Text), ", ")
		} else {
			value = setCookie(h["Set-Cookie"], p.Text)
		}
		if rule.FieldValue(value) {
			a.Captured = append(a.Captured, Captured{p, value})
		}
	}
	return a
}

// setCookie returns the value of the first cookie of that name that an answer sets.
func setCookie(lines []string, name string) string {
	for _, line := range lines {
		pair, _, _ := strings.Cut(line, ";")
		if key, value, ok := strings.Cut(pair, "="); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// capture notes which values of the service's answer the rules name.
func (p *Policy) capture() {
	if p.access == nil || p.access.external == nil {
		return
	}
	e := p.access.external
	for _, rules := range [][]header{p.request, p.response} {
		for _, r := range rules {
			for _, part := range r.value {
				answer := part.Value == template.AnswerField || part.Value == template.AnswerCookie
				if answer && !slices.Contains(e.captures, part) {
					e.captures = append(e.captures, part)
				}
			}
		}
	}
}

// CacheKey returns the key of the request's answer, "" if none is kept. Hosts do not share
// answers, nor do Ingresses.
func (e *External) CacheKey(q *Request, source string) string {
	if len(e.key) == 0 {
		return ""
	}
	filled := q.fill(nil, e.key)
	if len(filled) == 0 {
		return "" // who shows nothing is not one with all others who show nothing
	}
	return string(bytes.Join([][]byte{[]byte(source), q.Host, filled}, []byte{0}))
}

// Kept returns what was said under a key, nil if nothing is kept.
func (e *External) Kept(key string, now time.Time) *Allowed {
	if key == "" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.kept[key]
	if a == nil || now.After(a.until) {
		delete(e.kept, key)
		return nil
	}
	return a
}

// Keep keeps an answer, if the rule and the answer's own fields let it.
func (e *External) Keep(key string, a *Allowed, h http.Header, now time.Time) {
	if key == "" || len(key)+a.size() > maxKeptSize || len(a.Cookies) > 0 || h.Get("Vary") == "*" {
		return
	}
	control := strings.ToLower(strings.Join(h["Cache-Control"], ","))
	for _, no := range []string{"no-store", "no-cache", "private"} {
		if strings.Contains(control, no) {
			return
		}
	}
	for _, c := range e.keep {
		matches := len(c.status) == 0
		for _, status := range c.status {
			matches = matches || int(status) == a.Status
		}
		if !matches || c.time <= 0 {
			continue
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		for other := range e.kept {
			if len(e.kept) < maxKept {
				break
			}
			delete(e.kept, other)
		}
		a.until = now.Add(c.time)
		e.kept[key] = a
		return
	}
}

// DropClaims removes client-supplied headers that only the auth service may set, even when the
// service was not asked (satisfy: any), and also names that CGI folds to the same variable ('_' for
// '-').
func (p *Policy) DropClaims(q *Request) {
	if p.access == nil || p.access.external == nil {
		return
	}
	for _, name := range p.access.external.response {
		DropVariable(q.Request, name)
	}
}

// DropVariable leaves out the client's fields of a name, and of names that CGI and its
// like take for the same.
func DropVariable(r *message.Request, name string) {
	for i := range r.Fields {
		if f := &r.Fields[i]; SameVariable(f.Name, name) {
			f.HopByHop = true
		}
	}
}

// SameVariable reports whether two names of fields are one variable to CGI and its like.
func SameVariable[T string | []byte](a T, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if variable(a[i]) != variable(b[i]) {
			return false
		}
	}
	return true
}

func variable(c byte) byte {
	if c == '-' {
		return '_'
	}
	return lowered(c)
}

// Owns reports whether a rule says what the pod gets in a request's field of this name.
func (p *Policy) Owns(name []byte) bool {
	if p.access != nil && p.access.external != nil {
		for _, own := range p.access.external.response {
			if SameVariable(name, own) {
				return true
			}
		}
	}
	for i := range p.request {
		if SameVariable(name, p.request[i].lower) {
			return true
		}
	}
	return false
}

// SignIn appends the URL at which the client can sign in, nothing if there is none.
func (e *External) SignIn(dst []byte, q *Request) []byte {
	if len(e.signIn) == 0 {
		return dst
	}
	dst = q.fill(dst, e.signIn)
	if e.joint == "" {
		return dst
	}
	dst = append(dst, e.joint...)
	// As ingress-nginx writes it: the host can be read, and the rest cannot end the parameter.
	dst = append(q.fill(dst, scheme), "://"...)
	dst = appendEscaped(dst, q.fill(nil, askedHost), &plainHost)
	return appendEscapedAll(dst, q.fill(nil, originalTarget))
}

// plainHost is what stands for itself in the host of a URL that is a parameter.
var plainHost = plainSet("-._~:[]")

// appendEscapedAll escapes everything but what stands for itself everywhere.
func appendEscapedAll(dst, text []byte) []byte { return appendEscaped(dst, text, &unreserved) }

var unreserved = plainSet("-._~")

// External returns what has to be asked about a request of which the other rules of access
// have said v; nil if that stands.
func (p *Policy) External(v Verdict, q *Request) *External {
	if p.access == nil || p.access.external == nil {
		return nil
	}
	a := p.access
	switch v {
	case Pass:
		if a.any && (a.basic != nil || (!a.allowAll || a.deny != nil) && a.source(q) == Pass) {
			return nil // one of them is enough
		}
		return a.external
	case SourceDenied, NeedPassword:
		if a.any {
			return a.external
		}
	}
	return nil
}
