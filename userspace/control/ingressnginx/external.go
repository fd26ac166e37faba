package ingressnginx

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// external reads auth-url and what belongs to it. What cannot be read of it closes the
// Ingress: nobody can tell what it was to keep out.
func (r *reader) external() *model.ExternalAuth {
	_, url, set := r.text("auth-url")
	told := r.authHeaders()
	if !set {
		return nil
	}
	to, err := r.destination(url)
	if err != nil {
		r.close("auth-url", err.Error())
		return nil
	}
	e := &model.ExternalAuth{To: to, Headers: told, AlwaysSetCookie: r.boolean("auth-always-set-cookie", false)}
	if _, v, set := r.text("auth-method"); set {
		if e.Method = strings.ToUpper(v); !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, e.Method) {
			r.close("auth-method", fmt.Sprintf("%q is none of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS", rule.Shorten(v)))
		}
	}
	if _, v, set := r.text("auth-response-headers"); set {
		for _, name := range list(v) {
			if err := rule.FieldName(name); err != nil {
				r.close("auth-response-headers", err.Error())
				continue
			}
			e.Response = append(e.Response, name)
		}
	}
	if _, v, set := r.text("auth-signin"); set {
		if err := r.signIn(v); err != nil {
			r.find("auth-signin", Invalid, "%q: %v; clients that are not signed in get 401", rule.Shorten(v), err)
		} else {
			e.SignIn, e.SignInParameter = v, "rd"
		}
	}
	if _, v, set := r.text("auth-signin-redirect-param"); set {
		if rule.Token(v) {
			e.SignInParameter = v
		} else {
			r.invalid("auth-signin-redirect-param", v, "a name without spaces and separators", "rd is used")
		}
	}
	if v, ok := r.template("auth-request-redirect", "the URI asked for is taken"); ok {
		e.Redirect = v
	}
	r.authCache(e)
	return e
}

func (r *reader) signIn(v string) error {
	if err := r.checkTemplate(v); err != nil {
		return err
	}
	for _, begin := range []string{"https://", "http://", "$scheme://", "${scheme}://", "/"} {
		if strings.HasPrefix(v, begin) && !strings.HasPrefix(v, "//") {
			return nil
		}
	}
	return errors.New("it must be a URL that begins with http://, https:// or $scheme://, or a path")
}

// authCache reads auth-cache-key and auth-cache-duration: statuses, if any, then a time,
// in lists separated by commas. What cannot be read keeps answers from being kept.
func (r *reader) authCache(e *model.ExternalAuth) {
	_, durations, timed := r.text("auth-cache-duration")
	key, ok := r.template("auth-cache-key", "answers are not cached")
	if !ok {
		return
	}
	if !timed {
		durations = "200 202 401 5m"
	}
	for _, item := range list(durations) {
		words := strings.Fields(item)
		kept, err := duration(words[len(words)-1])
		if err != nil {
			r.invalid("auth-cache-duration", item, "statuses and a time, such as 200 202 10m", "answers are not cached")
			return
		}
		c := model.CacheTime{For: kept}
		for _, word := range words[:len(words)-1] {
			status, err := strconv.Atoi(word)
			if err != nil || status < 200 || status > 599 {
				r.invalid("auth-cache-duration", item, "statuses and a time, such as 200 202 10m", "answers are not cached")
				return
			}
			c.Status = append(c.Status, status)
		}
		e.CacheFor = append(e.CacheFor, c)
	}
	e.CacheKey = key
}

// duration reads a time as nginx writes it: 30, 30s, 5m, 2h, 1d.
func duration(text string) (time.Duration, error) {
	unit := time.Second
	for suffix, u := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour} {
		if strings.HasSuffix(text, suffix) {
			text, unit = strings.TrimSuffix(text, suffix), u
			break
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || time.Duration(n) > 30*24*time.Hour/unit {
		return 0, fmt.Errorf("%q is no time", text)
	}
	return time.Duration(n) * unit, nil
}

func (r *reader) mirror() {
	_, body, _ := r.text("mirror-request-body")
	if body != "" && body != "on" && body != "off" {
		r.invalid("mirror-request-body", body, "on or off", "on is used")
	}
	host, _ := r.template("mirror-host", "the copies have the target's host")
	_, v, set := r.text("mirror-target")
	if !set {
		return
	}
	to, err := r.destination(v)
	if err == nil && to.Authority == "$host" {
		err = fmt.Errorf("%q would send requests to themselves", rule.Shorten(v))
	}
	if err != nil {
		r.find("mirror-target", Invalid, "%v; nothing is mirrored", err)
		return
	}
	r.want().Mirrors = []model.Mirror{{To: to, Host: host, Body: body != "off"}}
}

// errorPages reads which responses another service answers in place of.
func (r *reader) errorPages() {
	var backend model.ServiceKey
	if _, v, set := r.text("default-backend"); set {
		var err error
		if r.refs == nil {
			backend = model.ServiceKey{Namespace: r.in.Namespace, Name: v}
		} else if backend, err = r.refs.Service(r.in.Namespace, v, 0); err != nil {
			r.find("default-backend", Invalid, "%v; a Service without ready pods is answered with 503", err)
		} else {
			r.want().Fallback = backend
		}
	}
	r.boolean("disable-proxy-intercept-errors", false)
	_, v, set := r.text("custom-http-errors")
	if !set {
		return
	}
	pages := &model.ErrorPages{Service: backend}
	for _, item := range list(v) {
		status, err := strconv.Atoi(item)
		if err != nil || !rule.ErrorStatus(status) {
			r.invalid("custom-http-errors", item, "statuses from 400 to 599, separated by commas", "this status is passed on unchanged")
			continue
		}
		pages.Status = append(pages.Status, status)
	}
	slices.Sort(pages.Status)
	if pages.Status = slices.Compact(pages.Status); len(pages.Status) > 0 && !r.boolean("disable-proxy-intercept-errors", false) {
		r.want().ErrorPages = pages
	}
}

// pace reads how fast responses go, in kilobytes.
func (r *reader) pace() {
	rate, after := r.number("limit-rate", 0, 0, 1<<30), r.number("limit-rate-after", 0, 0, 1<<30)
	if rate > 0 {
		r.want().Pace = &model.Pace{BytesPerSecond: uint64(rate) << 10, After: uint64(after) << 10}
	}
}
