package differential

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// testID is the field by which a request is known again at the pods.
const testID = "Test-Id"

// services are those that cases may name; each has one pod.
var services = []string{"web", "other", "auth", "errors", "broken"}

// pods answer, and note what they got.
type pods struct {
	address map[string]string // by service

	mu   sync.Mutex
	seen map[string][]string // by testID
}

// startPods starts a pod per service; that of "broken" closes each connection.
func startPods(t *testing.T) *pods {
	p := &pods{address: map[string]string{}, seen: map[string][]string{}}
	for _, service := range services {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, service) }))
		t.Cleanup(server.Close)
		p.address[service] = strings.TrimPrefix(server.URL, "http://")
	}
	return p
}

// answer does what the field Do says: status=N, header=NAME: VALUE (repeatable).
func (p *pods) answer(w http.ResponseWriter, r *http.Request, service string) {
	if service == "broken" {
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.note(service, r, body)
	do, err := url.ParseQuery(r.Header.Get("Do"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if service != "web" {
		do, _ = url.ParseQuery(r.Header.Get("Do-" + service))
	}
	w.Header().Set("X-Pod", service)
	for _, h := range do["header"] {
		name, value, _ := strings.Cut(h, ": ")
		w.Header().Add(name, value)
	}
	status, err := strconv.Atoi(do.Get("status"))
	if err != nil {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		fmt.Fprintf(w, "%s was asked for %s", service, r.URL.Path)
	}
}

// unseen are fields of requests that are free to differ: ids, and what belongs to a connection.
var unseen = []string{testID, "X-Request-Id", "X-Kerngate-Pass", "Connection"}

func (p *pods) note(service string, r *http.Request, body []byte) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s got %s %s of %s\n", service, r.Method, r.RequestURI, r.Host)
	for _, name := range slices.Sorted(mapKeys(r.Header)) {
		if slices.Contains(unseen, name) {
			continue
		}
		for _, v := range r.Header[name] {
			if name == "Content-Length" && v == "0" {
				continue // says the same as none
			}
			fmt.Fprintf(&b, "  %s: %s\n", name, v)
		}
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "  body of %d bytes, %x\n", len(body), sha256.Sum256(body))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := r.Header.Get(testID)
	p.seen[id] = append(p.seen[id], b.String())
}

// received is all that pods got of a request, so many times at least; the proxy's port is
// not shown.
func (p *pods) received(id, proxy string, least int) string {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		n := len(p.seen[id])
		p.mu.Unlock()
		if n >= least {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := slices.Clone(p.seen[id])
	slices.Sort(seen)
	_, port, _ := strings.Cut(proxy, ":")
	return strings.ReplaceAll(strings.Join(seen, ""), "X-Forwarded-Port: "+port, "X-Forwarded-Port: (port)")
}
