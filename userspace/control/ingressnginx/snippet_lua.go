package ingressnginx

import (
	"regexp"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
)

// cookieParts is the Lua of oauth2-proxy's guide, which passes the second part of a cookie
// on. The proxy passes all cookies of the answer on by itself.
var cookieParts = regexp.MustCompile(`^\s*if\s+ngx\.var\.(\w+)\s*~=\s*""\s*then\s+` +
	`ngx\.header\["Set-Cookie"\]\s*=\s*"\w+="\s*\.\.\s*ngx\.var\.(\w+)\s*\.\.\s*ngx\.var\.auth_cookie:match\("\(; \.\*\)"\)\s+end\s*$`)

// lua says what becomes of Lua: nothing, unless it is known to be of no need here.
func (s *snippet) lua(d nginxconf.Directive) {
	switch m := cookieParts.FindStringSubmatch(d.Lua); {
	case d.Name == "access_by_lua_block" && m != nil && m[1] == m[2]:
		s.note(d, "there is no need for it: the proxy passes all cookies of the external auth service's answer on, those in several parts, too")
	case guards(d):
		s.close(d, "Lua is not executed, and this block may decide who gets in")
	default:
		s.report(d, errLua)
	}
}
