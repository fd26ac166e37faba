package ingressnginx

import (
	"net/url"
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// redirects: a temporal one goes before a permanent one, and both before app-root.
func (r *reader) redirects() {
	temporal := r.redirect("temporal-redirect", "temporal-redirect-code", 302)
	permanent := r.redirect("permanent-redirect", "permanent-redirect-code", 301)
	for _, d := range []*model.Redirect{temporal, permanent} {
		if d != nil {
			p := r.want()
			p.Redirects = append(p.Redirects, *d)
			break // the other would never be reached
		}
	}
	_, v, set := r.text("app-root")
	if !set {
		return
	}
	const here = "$scheme://$http_host"
	if _, _, err := rule.Redirect(302, here+v, ""); err != nil || r.checkTemplate(here+v) != nil || !strings.HasPrefix(v, "/") || strings.HasPrefix(v, "//") || v == "/" {
		r.invalid("app-root", v, "a path that begins with one slash and is not / itself", "requests for / go to the pod")
		return
	}
	p := r.want()
	p.Redirects = append(p.Redirects, model.Redirect{Path: "/", Status: 302, Target: here + v, By: r.by("app-root")})
}

func (r *reader) redirect(key, codeKey string, code int) *model.Redirect {
	code = r.number(codeKey, code, 300, 308)
	if code == 304 || code == 305 || code == 306 {
		r.invalid(codeKey, "", "300 to 303, 307 or 308", "302 is used")
		code = 302
	}
	v, ok := r.template(key, "requests go to the pod")
	if !ok {
		return nil
	}
	// What stands before the first value must settle where the client is sent.
	fixed, _, _ := strings.Cut(v, "$")
	u, err := url.Parse(fixed)
	switch {
	case strings.HasPrefix(v, "$scheme://"), strings.HasPrefix(v, "${scheme}://"):
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && (u.Host != "" || strings.HasSuffix(fixed, "://")):
	case err == nil && strings.HasPrefix(fixed, "/") && !strings.HasPrefix(fixed, "//"):
	default:
		r.invalid(key, v, "a URL that begins with http://, https:// or $scheme://, or a path", "requests go to the pod")
		return nil
	}
	return &model.Redirect{Status: code, Target: v, By: r.by(key)}
}
