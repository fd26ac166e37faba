package ingressnginx

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// configMapKeys are the keys that name a ConfigMap.
var configMapKeys = []string{"custom-headers", "auth-proxy-set-headers"}

// ConfigMaps returns the names of the ConfigMaps of a namespace that annotations refer to.
func ConfigMaps(namespace string, annotations map[string]string) (names []string) {
	for _, key := range configMapKeys {
		if v := strings.TrimSpace(annotations[Prefix+key]); v != "" {
			if name, err := configMapName(namespace, v); err == nil {
				names = append(names, name)
			}
		}
	}
	return names
}

// configMapName reads NAME or NAMESPACE/NAME. Only the Ingress's own namespace is looked in,
// as with Secrets: who may write an Ingress must not thereby read what he may not.
func configMapName(namespace, v string) (string, error) {
	other, name, both := strings.Cut(v, "/")
	if !both {
		name = v
	} else if other != namespace {
		return "", unsupported(fmt.Sprintf("ConfigMap %s is of another namespace: only those of namespace %s are used", rule.Shorten(v), namespace))
	}
	if name == "" || len(name) > 253 || strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
	}) {
		return "", fmt.Errorf("%q is no name of a ConfigMap", rule.Shorten(v))
	}
	return name, nil
}

// fieldsOf returns the fields that a ConfigMap holds, by name.
func (r *reader) fieldsOf(v string) (map[string]string, error) {
	name, err := configMapName(r.in.Namespace, v)
	if err != nil || r.refs == nil {
		return nil, err
	}
	fields, err := r.refs.ConfigMap(name)
	if err == nil && len(fields) > nginxconf.MaxDirectives {
		err = fmt.Errorf("ConfigMap %s/%s has %d fields, more than %d", r.in.Namespace, name, len(fields), nginxconf.MaxDirectives)
	}
	return fields, err
}

// checkField says what is wrong with a header of a ConfigMap, but for values of the request in
// it.
func checkField(name, value string) error {
	if err := fieldName(name); err != nil {
		return err
	}
	if len(value) > template.MaxLength || !rule.FieldValue(value) {
		return fmt.Errorf("the value of field %s has control characters, or more than %d bytes", name, template.MaxLength)
	}
	return nil
}

// customHeaders reads the fields that responses get. As in ingress-nginx, values of the request
// may stand in theirs.
func (r *reader) customHeaders() {
	const key = "custom-headers"
	_, v, set := r.text(key)
	if !set {
		return
	}
	fields, err := r.fieldsOf(v)
	if err != nil {
		r.find(key, verdictOf(err), "%v; responses do not carry its headers", err)
		return
	}
	allowed := r.in.AllowedFields
	if c := r.in.Controller; len(allowed) == 0 && c != nil {
		allowed = c.allowedFields
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		err := checkField(name, fields[name])
		if err == nil && len(allowed) > 0 && !slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, name) }) {
			err = unsupported(fmt.Sprintf("header %s is not among those that the agent allows (--global-allowed-response-headers)", name))
		}
		if err == nil {
			err = r.checkTemplate(fields[name])
		}
		if err != nil {
			r.find(key, verdictOf(err), "%v; responses do not carry it", err)
			continue
		}
		p := r.want()
		p.ResponseHeaders = append(p.ResponseHeaders, model.HeaderRule{Op: model.SetHeader, Name: name, Value: fields[name], By: r.by(key)})
	}
}

// authHeaders reads the fields that a service that is asked gets. Without them it may judge
// otherwise than it was meant to, so that what cannot be had closes the Ingress.
func (r *reader) authHeaders() (rules []model.HeaderRule) {
	const key = "auth-proxy-set-headers"
	_, v, set := r.text(key)
	if !set {
		return nil
	}
	fields, err := r.fieldsOf(v)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err == nil {
			err = checkField(name, fields[name])
		}
		if err == nil {
			err = r.checkTemplate(fields[name])
		}
		rules = append(rules, model.HeaderRule{Op: model.SetHeader, Name: name, Value: fields[name], By: r.by(key)})
	}
	if err != nil {
		r.close(key, err.Error())
		return nil
	}
	return rules
}
