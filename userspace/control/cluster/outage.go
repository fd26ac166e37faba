package cluster

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"k8s.io/client-go/rest"
)

// How soon lists and watches are back after the API server was away. The informers' own waits
// double up to a minute, and a pod that is gone gets requests for as long.
const (
	// askFirst and askMost bound the wait before a request is sent again. It is random, so that
	// the agents of a large cluster do not come at once.
	askFirst = time.Second
	askMost  = 4 * time.Second
	// dialTimeout is short, because the kernel sends a SYN ever more rarely.
	dialTimeout = 3 * time.Second
	// afterOutage is for how long an API server that is back may still fail, or refuse whom it will
	// allow: it has not read its own rules yet.
	afterOutage = 15 * time.Second
)

// shortenWaits has connections to an API server that has lost its power, or its network, noticed
// within seconds (30 and 15 by default). The library reads both from the environment alone.
func shortenWaits(config *rest.Config) {
	for name, value := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "2", "HTTP2_PING_TIMEOUT_SECONDS": "2"} {
		if _, set := os.LookupEnv(name); !set {
			os.Setenv(name, value)
		}
	}
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	}
}

// patient repeats the lists and watches of informers until the API server answers or their caller
// gives up. So an informer's own wait never begins, and it continues when the outage ends. Other
// requests fail at once: their callers know what to do meanwhile.
func (c *Connection) patient(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if query := r.URL.Query(); r.Method != http.MethodGet || !query.Has("resourceVersion") && !query.Has("watch") {
			return next.RoundTrip(r)
		}
		for {
			response, err := next.RoundTrip(r)
			if r.Context().Err() != nil || !c.away(response, err) {
				return response, err
			}
			if response != nil {
				io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
				response.Body.Close()
			}
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(c.pause()):
			}
		}
	})
}

func (c *Connection) pause() time.Duration {
	if c.wait > 0 {
		return c.wait
	}
	return askFirst + rand.N(askMost-askFirst)
}

// away reports whether this is no answer of an API server that is well, and keeps account of when
// the last outage ended.
func (c *Connection) away(response *http.Response, err error) bool {
	unwell := []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	out := err != nil || slices.Contains(unwell, response.StatusCode)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case out:
		if c.since.IsZero() {
			c.since = time.Now()
			reason := err
			if err == nil {
				reason = errors.New(response.Status)
			}
			c.log.Warn().Err(reason).Str("api_server", c.URL).Msg("the API server does not answer; what is known stays in force, and it is asked again every few seconds")
		}
		return true
	case !c.since.IsZero():
		c.log.Info().Dur("away_for", time.Since(c.since)).Str("api_server", c.URL).Msg("the API server answers again")
		c.since, c.back = time.Time{}, time.Now()
	}
	// A 500 at another time is about one resource, as of Secrets that cannot be decrypted: the
	// informer says so.
	notYet := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError}
	return slices.Contains(notYet, response.StatusCode) && !c.back.IsZero() && time.Since(c.back) < afterOutage
}
