package kube

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Annotations on a Service that say how it is found out which of its pods are ill, and how
// much each may be asked at a time.
const (
	annotationHealthCheck   = "kerngate.dev/health-check"           // "http:/PATH", "tcp", "grpc" or "grpc:SERVICE"
	annotationCheckHost     = "kerngate.dev/health-check-host"      // of HTTP and gRPC requests, and of TLS
	annotationCheckPort     = "kerngate.dev/health-check-port"      // in place of the pod's own
	annotationCheckInterval = "kerngate.dev/health-check-interval"  // "10s"
	annotationCheckTimeout  = "kerngate.dev/health-check-timeout"   // "5s"
	annotationCheckFailures = "kerngate.dev/health-check-unhealthy" // failures in a row that take a pod out
	annotationCheckPasses   = "kerngate.dev/health-check-healthy"   // successes in a row that take it back
	annotationConnections   = "kerngate.dev/max-connections"        // requests in flight to one pod
	annotationPending       = "kerngate.dev/max-pending"            // requests that wait for one of them
	annotationOutlier       = "kerngate.dev/outlier-detection"      // "off", or some of "consecutive=10,ejection=30s,most-percent=30,server-errors"
)

// Bounds of what the annotations may say. A shorter interval would be a load on its own.
const (
	leastInterval = 100 * time.Millisecond
	mostDuration  = time.Hour
	mostInRow     = 1000
	mostRequests  = 1_000_000
)

// serviceAnnotations reads those of one Service. A value that cannot be read is reported and
// ignored; of a health check, the whole check is, for a wrong one makes pods look ill.
type serviceAnnotations struct {
	of    *corev1.Service
	found *problems
	wrong bool // one of those read since was
}

func (a *serviceAnnotations) read(key string, parse func(string) error) {
	v, set := a.of.Annotations[key]
	if v = strings.TrimSpace(v); !set || v == "" {
		return
	}
	if err := parse(v); err != nil {
		a.wrong = true
		a.found.add(refOf("Service", a.of), model.Warning, "AnnotationInvalid", fmt.Sprintf("annotation %s: %q: %v; it is ignored", key, rule.Shorten(v), err))
	}
}

func (a *serviceAnnotations) duration(key string, least time.Duration, to *time.Duration) {
	a.read(key, func(v string) (err error) { *to, err = parseDuration(v, least); return err })
}

func (a *serviceAnnotations) count(key string, to *uint32) {
	a.read(key, func(v string) (err error) { *to, err = parseCount(v, mostInRow); return err })
}

// readPolicy reads what a Service says of its pods' health, and how much they can take.
func readPolicy(service *corev1.Service, result *model.Service, found *problems) {
	a := serviceAnnotations{of: service, found: found}
	a.read(annotationOutlier, func(v string) error {
		o, err := parseOutlier(v)
		if err == nil {
			result.Outlier = o
		}
		return err
	})
	result.Health = readHealthCheck(service, found)
	a.wrong = false
	bounds := &result.Bounds
	a.read(annotationConnections, func(v string) (err error) { bounds.Connections, err = parseCount(v, mostRequests); return err })
	a.read(annotationPending, func(v string) (err error) { bounds.Pending, err = parseCount(v, mostRequests); return err })
	if bounds.Pending > 0 && bounds.Connections == 0 && !a.wrong {
		bounds.Pending = 0
		found.add(refOf("Service", service), model.Warning, "AnnotationIneffective", "annotation "+annotationPending+": has no effect without "+annotationConnections)
	}
}

// readHealthCheck returns nil if pods are not to be asked.
func readHealthCheck(service *corev1.Service, found *problems) *model.HealthCheck {
	a := serviceAnnotations{of: service, found: found}
	var check *model.HealthCheck
	a.read(annotationHealthCheck, func(v string) (err error) { check, err = parseHealthCheck(v); return err })
	h := check
	if h == nil {
		h = &model.HealthCheck{} // what else is wrong is told all the same
	}
	a.read(annotationCheckHost, func(v string) error {
		h.Host = v
		return checkHost(v)
	})
	a.read(annotationCheckPort, func(v string) error {
		n, err := parseCount(v, 65535)
		h.Port = uint16(n)
		return err
	})
	a.duration(annotationCheckInterval, leastInterval, &h.Interval)
	a.duration(annotationCheckTimeout, leastInterval, &h.Timeout)
	a.count(annotationCheckFailures, &h.Unhealthy)
	a.count(annotationCheckPasses, &h.Healthy)
	if a.wrong {
		if check != nil {
			found.add(refOf("Service", service), model.Warning, "HealthCheckIgnored", "health checks are off, because an annotation kerngate.dev/health-check-* is invalid")
		}
		return nil
	}
	return check
}

func parseHealthCheck(v string) (*model.HealthCheck, error) {
	kind, rest, more := strings.Cut(v, ":")
	switch {
	case kind == "http" && strings.HasPrefix(rest, "/") && !strings.ContainsFunc(rest, notVisible):
		return &model.HealthCheck{Kind: model.CheckHTTP, Path: rest}, nil
	case kind == "tcp" && !more:
		return &model.HealthCheck{Kind: model.CheckTCP}, nil
	case kind == "grpc" && (!more || rest != "") && !strings.ContainsFunc(rest, notVisible):
		return &model.HealthCheck{Kind: model.CheckGRPC, Path: rest}, nil
	}
	return nil, errors.New("it can be http:/PATH, tcp, grpc or grpc:SERVICE")
}

// notVisible reports what a request line must not hold.
func notVisible(c rune) bool { return c <= ' ' || c > '~' || c == '#' }

func parseOutlier(v string) (o model.Outlier, err error) {
	if v == "off" {
		return model.Outlier{Off: true}, nil
	}
	for part := range strings.SplitSeq(v, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case key == "consecutive":
			o.Consecutive, err = parseCount(value, mostInRow)
		case key == "ejection":
			o.Ejection, err = parseDuration(value, time.Second)
		case key == "most-percent":
			o.MostPercent, err = parseCount(value, 100)
		case key == "server-errors" && value == "":
			o.ServerErrors = true
		default:
			return o, errors.New("it can be off, or a list by commas of consecutive=N, ejection=DURATION, most-percent=N and server-errors")
		}
		if err != nil {
			return o, fmt.Errorf("%s: %w", key, err)
		}
	}
	return o, nil
}

func parseDuration(v string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > mostDuration {
		return 0, fmt.Errorf("it can be a duration from %s to %s, such as 10s", least, mostDuration)
	}
	return d, nil
}

func parseCount(v string, most int) (uint32, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("it can be a number from 1 to %d", most)
	}
	return uint32(n), nil
}
