package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

var errRegularExpression = errors.New("looks like a regular expression, which paths here are not: use pathType Prefix or Exact with a literal path")

// checkHost says what is wrong with a rule's host. The rules are the API server's, so
// that a folder of manifests accepts what a cluster accepts.
func checkHost(host string) error {
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return errors.New("must be a DNS name, not an address: leave host out to serve requests for any host")
	}
	check := validation.IsDNS1123Subdomain
	if strings.Contains(host, "*") {
		check = validation.IsWildcardDNS1123Subdomain
	}
	if wrong := check(host); len(wrong) > 0 {
		return errors.New(wrong[0])
	}
	return nil
}

// matchOf translates a path and its type. ImplementationSpecific is Prefix.
func matchOf(path string, pathType *networkingv1.PathType) (string, model.PathMatch, error) {
	if pathType == nil {
		return "", 0, errors.New("pathType is missing: set Exact, Prefix or ImplementationSpecific")
	}
	var match model.PathMatch
	switch *pathType {
	case networkingv1.PathTypeExact:
		match = model.Exact
	case networkingv1.PathTypePrefix:
	case networkingv1.PathTypeImplementationSpecific:
		if path == "" {
			path = "/"
		}
		if strings.ContainsAny(path, `\^$*?()[]{}|`) || strings.Contains(path, ".+") {
			return "", 0, fmt.Errorf("path %q %w", path, errRegularExpression)
		}
	default:
		return "", 0, fmt.Errorf("pathType %q is unknown: set Exact, Prefix or ImplementationSpecific", *pathType)
	}
	path, err := rule.Path(path)
	if err != nil {
		return "", 0, err
	}
	if match == model.Prefix && path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	return path, match, nil
}
