package ingressnginx

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/template"
)

// snippets reads configuration-snippet and server-snippet. They are never executed: the few
// directives that have an equal here are taken for it, and the others are said. A directive
// that keeps somebody out keeps everybody out, since we do not know whom it meant; in an
// auth-snippet, of which nothing else is read, too.
func (r *reader) snippets() {
	// What a server answers by itself goes before what its locations do.
	later := r.policy.Redirects
	r.policy.Redirects = nil
	r.snippet("server-snippet")
	r.policy.Redirects = append(r.policy.Redirects, later...)
	r.snippet("configuration-snippet")
	r.snippet("auth-snippet")
}

func (r *reader) snippet(key string) {
	_, text, set := r.text(key)
	if !set {
		return
	}
	directives, err := parseSnippet(text)
	if err != nil {
		r.close(key, fmt.Sprintf("it cannot be read: %v", err))
		return
	}
	for _, d := range directives {
		if d.guards() {
			r.close(key, fmt.Sprintf("the directive %q decides who gets in, and is not executed", shorten(d.words[0])))
			continue
		}
		if key == "auth-snippet" {
			r.find(key, Unsupported, "the directive %q is not executed", shorten(d.words[0]))
			continue
		}
		err := errNoEqual
		if key == "configuration-snippet" || ofServers[d.words[0]] {
			err = r.directive(d)
		}
		if err != nil {
			r.find(key, Invalid, "the directive %q is not executed: %v", shorten(strings.Join(d.words, " ")), err)
		}
	}
}

// ofServers are the directives that have their equal in a server-snippet, too. Those for
// requests to pods have no effect there in ingress-nginx, whose locations have their own.
var ofServers = map[string]bool{"add_header": true, "more_set_headers": true, "more_clear_headers": true, "return": true, "rewrite": true}

// directive is a statement of nginx's configuration.
type directive struct {
	words []string
	block bool // it has a block, whose directives follow
	inner bool // it stands in a block
}

// maxSnippet and maxDirectives bound what is read.
const (
	maxSnippet    = 64 << 10
	maxDirectives = 256
)

// parseSnippet splits a text into directives as nginx does (ngx_conf_read_token). Those
// within blocks are listed as well.
func parseSnippet(text string) ([]directive, error) {
	if len(text) > maxSnippet {
		return nil, fmt.Errorf("%d bytes are more than %d", len(text), maxSnippet)
	}
	var out []directive
	var d directive
	depth := 0
	flush := func() error {
		if len(d.words) > 0 {
			d.inner = depth > 0
			out = append(out, d)
		}
		d = directive{}
		if len(out) > maxDirectives {
			return fmt.Errorf("more than %d directives", maxDirectives)
		}
		return nil
	}
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case ';':
			if err := flush(); err != nil {
				return nil, err
			}
			i++
		case '{':
			if len(d.words) == 0 {
				return nil, errors.New("a { stands alone")
			}
			d.block = true
			if err := flush(); err != nil {
				return nil, err
			}
			depth++
			i++
		case '}':
			if depth--; depth < 0 || len(d.words) > 0 {
				return nil, errors.New("a } that ends nothing")
			}
			i++
		default:
			word, n, err := cutWord(text[i:])
			if err == nil && word == "" && len(d.words) == 0 {
				err = errors.New("a directive has no name")
			}
			if err != nil {
				return nil, err
			}
			d.words = append(d.words, word)
			i += n
		}
	}
	if len(d.words) > 0 || depth > 0 {
		return nil, errors.New("the last directive has no end")
	}
	return out, nil
}

// cutWord returns the word that text begins with, and its length there.
func cutWord(text string) (word string, n int, err error) {
	var b strings.Builder
	quote := byte(0)
	if text[0] == '"' || text[0] == '\'' {
		quote = text[0]
		n++
	}
	for ; n < len(text); n++ {
		c := text[n]
		switch {
		case c == '\\' && n+1 < len(text):
			n++
			switch e := text[n]; e {
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case 'n':
				b.WriteByte('\n')
			case '"', '\'', '\\':
				b.WriteByte(e)
			default:
				b.WriteByte('\\')
				b.WriteByte(e)
			}
			continue
		case quote != 0 && c == quote:
			return b.String(), n + 1, nil
		case quote == 0 && c == '$' && n+1 < len(text) && text[n+1] == '{':
			end := strings.IndexByte(text[n:], '}')
			if end < 0 {
				return "", 0, errors.New("a } is missing after ${")
			}
			b.WriteString(text[n : n+end+1])
			n += end
			continue
		case quote == 0 && strings.IndexByte(" \t\r\n;{", c) >= 0:
			return b.String(), n, nil
		}
		b.WriteByte(c)
	}
	if quote != 0 {
		return "", 0, errors.New("a quote is not closed")
	}
	return b.String(), n, nil
}

// guards reports whether a directive can keep somebody out: those that are made for it, and
// a refusal under a condition.
func (d directive) guards() bool {
	switch d.words[0] {
	case "allow", "deny", "satisfy", "limit_except", "internal", "valid_referers", "ssl_verify_client":
		return true
	case "return":
		return d.inner && len(d.words) > 1 && d.words[1] != "" && (d.words[1][0] == '4' || d.words[1][0] == '5')
	}
	for _, prefix := range []string{"auth_", "limit_req", "limit_conn", "access_by_", "rewrite_by_", "modsecurity", "naxsi", "secure_link"} {
		if strings.HasPrefix(d.words[0], prefix) {
			return true
		}
	}
	return false
}

var errNoEqual = errors.New("it has no equal here")

// directive takes a directive for what it equals.
func (r *reader) directive(d directive) error {
	args := d.words[1:]
	if d.block || d.inner {
		return errNoEqual
	}
	switch d.words[0] {
	case "add_header": // adds; on error statuses only with "always", which is not told apart here
		if len(args) == 3 && args[2] == "always" {
			args = args[:2]
		}
		if len(args) != 2 {
			return errors.New("it is written add_header NAME VALUE")
		}
		return r.addHeader(&r.policy.ResponseHeaders, model.AddHeader, args[0], args[1])
	case "proxy_set_header":
		if len(args) != 2 {
			return errors.New("it is written proxy_set_header NAME VALUE")
		}
		if strings.EqualFold(args[0], "host") {
			if _, err := template.Parse(args[1]); err != nil {
				return err
			}
			r.want().Host = args[1]
			return nil
		}
		return r.addHeader(&r.policy.RequestHeaders, model.SetHeader, args[0], args[1])
	case "proxy_hide_header":
		if len(args) != 1 {
			return errors.New("it is written proxy_hide_header NAME")
		}
		return r.addHeader(&r.policy.ResponseHeaders, model.SetHeader, args[0], "")
	case "more_set_headers", "more_clear_headers":
		return r.moreHeaders(d.words[0] == "more_clear_headers", args)
	case "return":
		return r.returns(args)
	case "rewrite":
		return r.rewrites(args)
	}
	return errNoEqual
}

func (r *reader) moreHeaders(remove bool, args []string) error {
	if len(args) == 0 {
		return errors.New("it names no field")
	}
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			return fmt.Errorf("the option %s has no equal here", shorten(arg))
		}
		name, value, _ := strings.Cut(arg, ":")
		if remove {
			value = ""
		}
		if strings.HasSuffix(name, "*") {
			return errors.New("names with * have no equal here")
		}
		if err := r.addHeader(&r.policy.ResponseHeaders, model.SetHeader, strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

// proxyOwn are the fields that no rule may touch; the proxy checks the same.
var proxyOwn = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true, "transfer-encoding": true,
	"upgrade": true, "http2-settings": true, "content-length": true, "host": true, "expect": true,
}

func (r *reader) addHeader(to *[]model.HeaderRule, op model.HeaderOp, name, value string) error {
	switch {
	case !token(name):
		return fmt.Errorf("%q is no field name", shorten(name))
	case proxyOwn[strings.ToLower(strings.ReplaceAll(name, "_", "-"))]:
		return fmt.Errorf("field %s is the proxy's own affair", name)
	case len(*to) >= maxDirectives:
		return fmt.Errorf("more than %d fields", maxDirectives)
	}
	if _, err := template.Parse(value); err != nil {
		return err
	}
	r.touched = true
	*to = append(*to, model.HeaderRule{Op: op, Name: name, Value: value})
	return nil
}

// returns takes "return URL", "return CODE" and "return CODE URL". A text as a body has no
// equal.
func (r *reader) returns(args []string) error {
	d := model.Redirect{Status: http.StatusFound}
	switch len(args) {
	case 0:
		return errors.New("it is written return CODE [URL]")
	case 1:
		if code, err := strconv.Atoi(args[0]); err == nil {
			d.Status = code
		} else {
			d.Target = args[0]
		}
	case 2:
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return fmt.Errorf("%q is no status", shorten(args[0]))
		}
		d.Status, d.Target = code, args[1]
	default:
		return errors.New("it is written return CODE [URL]")
	}
	redirect := d.Status/100 == 3 && d.Status != 300 && d.Status <= 308 && d.Status != 304 && d.Status != 305 && d.Status != 306
	switch {
	case d.Status < 200 || d.Status > 599:
		return fmt.Errorf("status %d is not one that a request can be answered with", d.Status)
	case redirect && d.Target == "":
		return fmt.Errorf("status %d needs a URL", d.Status)
	case !redirect && d.Target != "":
		return errors.New("a text to answer with has no equal here")
	}
	if _, err := template.Parse(d.Target); err != nil {
		return err
	}
	p := r.want()
	p.Redirects = append(p.Redirects, d)
	return nil
}

// rewrites takes "rewrite EXPRESSION URL [redirect|permanent]", of which every URL that
// begins with a scheme is a redirect (ngx_http_rewrite_module).
func (r *reader) rewrites(args []string) error {
	if len(args) != 2 && len(args) != 3 {
		return errors.New("it is written rewrite EXPRESSION URL redirect")
	}
	d := model.Redirect{Pattern: args[0], Status: http.StatusFound, Query: true}
	target, absolute := args[1], false
	for _, scheme := range []string{"http://", "https://", "$scheme://"} {
		absolute = absolute || strings.HasPrefix(target, scheme)
	}
	flag := args[len(args)-1]
	switch {
	case len(args) == 3 && flag == "permanent":
		d.Status = http.StatusMovedPermanently
	case len(args) == 3 && flag == "redirect", absolute && (len(args) == 2 || flag == "last" || flag == "break"):
	case len(args) == 3 && flag != "last" && flag != "break":
		return fmt.Errorf("%q is none of redirect, permanent, last and break", shorten(flag))
	default:
		return errors.New("a path for pods is set by rewrite-target")
	}
	if rest, alone := strings.CutSuffix(target, "?"); alone {
		target, d.Query = rest, false
	}
	switch {
	case !absolute && (!strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//")):
		return fmt.Errorf("%q is neither a URL with http://, https:// or $scheme://, nor a path", shorten(target))
	case !absolute && !r.out.RelativeRedirects:
		target = "$scheme://$host" + target
	case !absolute && strings.HasPrefix(target, "/$"):
		return errors.New("a path whose first segment is a value could be another host")
	}
	if _, after, _ := strings.Cut(target, "://"); len(after) > 1 && after[0] == '$' && after[1] >= '1' && after[1] <= '9' {
		return errors.New("clients must not choose the host that they are sent to")
	}
	if len(d.Pattern) > maxExpression {
		return fmt.Errorf("an expression of %d bytes: no more than %d are allowed", len(d.Pattern), maxExpression)
	}
	pattern, err := regexp.Compile(d.Pattern)
	if err != nil {
		return fmt.Errorf("%q is no expression of RE2: %w", shorten(d.Pattern), err)
	}
	if _, err := template.ParseGroups(target, pattern.NumSubexp()); err != nil {
		return err
	}
	d.Target = target
	p := r.want()
	p.Redirects = append(p.Redirects, d)
	return nil
}

// maxExpression is the length in bytes of the longest expression; the proxy has the same.
const maxExpression = 1024
