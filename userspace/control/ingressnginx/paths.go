package ingressnginx

import (
	"errors"
	"net/http"
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// paths reads what concerns hosts, paths and what pods see of them.
func (r *reader) paths() {
	r.out.Regexp = r.boolean("use-regex", false)
	if _, v, set := r.text("rewrite-target"); set {
		if elsewhere(v) {
			r.elsewhere(v)
		} else if why := badTarget(v); why != nil {
			r.find("rewrite-target", Invalid, "%q %v; the path is not rewritten", rule.Shorten(v), why)
		} else {
			r.want().Rewrite = &model.Rewrite{Target: v}
		}
	}
	if _, v, set := r.text("server-alias"); set {
		for _, alias := range aliases(v) {
			if !rule.HostName(alias) {
				r.invalid("server-alias", alias, "host names, separated by commas", "this entry is ignored")
				continue
			}
			r.out.Aliases = append(r.out.Aliases, alias)
		}
	}
	r.out.RedirectWWW = r.boolean("from-to-www-redirect", false)
	r.out.RelativeRedirects = r.boolean("relative-redirects", false)
	if v, ok := r.template("upstream-vhost", "pods get the client's Host"); ok {
		r.want().Host = v
		r.setBy(model.RuleHost, "upstream-vhost")
	}
	v, ok := r.template("x-forwarded-prefix", "the header is removed from requests")
	if _, _, set := r.text("x-forwarded-prefix"); ok || set {
		p := r.want()
		p.RequestHeaders = append(p.RequestHeaders, model.HeaderRule{Op: model.SetHeader, Name: "X-Forwarded-Prefix", Value: v, By: r.by("x-forwarded-prefix")})
	}
}

// elsewhere reports whether nginx's rewrite to this target is a redirect.
func elsewhere(target string) bool {
	for _, scheme := range []string{"http://", "https://", "$scheme://"} {
		if strings.HasPrefix(target, scheme) {
			return true
		}
	}
	return false
}

// elsewhere reads a rewrite-target that sends clients to another place.
func (r *reader) elsewhere(target string) {
	d := model.Redirect{Status: http.StatusFound, Target: target, Query: true, By: r.by("rewrite-target")}
	if rest, alone := strings.CutSuffix(target, "?"); alone {
		d.Target, d.Query = rest, false
	}
	_, host, _ := strings.Cut(target, "://")
	_, err := template.ParseGroups(d.Target, 9) // those that a path does not have are removed
	if err == nil {
		err = r.fits(d.Target)
	}
	if err == nil && (host == "" || host[0] == '/' || host[0] == '$' && len(host) > 1 && host[1] >= '1' && host[1] <= '9') {
		err = errors.New("it must name the host that clients are sent to")
	}
	if err != nil {
		r.find("rewrite-target", Invalid, "%q: %v; the path is not rewritten", rule.Shorten(target), err)
		return
	}
	r.out.Elsewhere = &d
}

// badTarget says what is wrong with a path in which $1 to $9 may stand.
func badTarget(target string) error {
	if err := rule.Rewrite(target); err != nil {
		return err
	}
	if target[0] != '/' && target[0] != '$' {
		return errors.New("does not begin with a slash: to send clients elsewhere there is permanent-redirect")
	}
	return nil
}

// Aliases returns the further hosts that annotations ask for, valid or not.
func Aliases(annotations map[string]string) []string {
	return aliases(annotations[Prefix+"server-alias"])
}

func aliases(text string) []string { return list(strings.ToLower(text)) }
