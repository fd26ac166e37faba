//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// clientRate is how often the honest client asks, per second.
	clientRate = 40
	// patience is how long it waits for an answer.
	patience = time.Second
)

// client is the honest one: it asks at a steady rate, each time by a new connection, in turn
// without and with TLS.
type client struct {
	plain, secure netip.AddrPort
	http3         bool
}

// visits is what came of an honest client's requests.
type visits struct {
	Asked, Answered int
	Took            []float64      // ms, of those that were answered
	Failed          map[string]int // by the kind of request
}

// visit asks for a while, whether what was asked before has been answered or not.
func (c *client) visit(perSecond int, duration time.Duration) visits {
	v := visits{Failed: map[string]int{}}
	kinds := []struct {
		name string
		ask  func(context.Context) error
	}{{"http", c.ask}, {"https", c.askTLS}}
	if c.http3 {
		kinds = append(kinds, struct {
			name string
			ask  func(context.Context) error
		}{"http3", c.askHTTP3})
	}
	var mu sync.Mutex
	var clients sync.WaitGroup
	began := time.Now()
	for v.Asked < int(duration.Seconds()*float64(perSecond)) {
		for due := int(time.Since(began).Seconds() * float64(perSecond)); v.Asked < due; v.Asked++ {
			kind := kinds[v.Asked%len(kinds)]
			clients.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				at := time.Now()
				err := kind.ask(ctx)
				took := time.Since(at)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || took > patience {
					v.Failed[kind.name]++
					return
				}
				v.Answered++
				v.Took = append(v.Took, took.Seconds()*1000)
			})
		}
		time.Sleep(time.Millisecond)
	}
	clients.Wait()
	return v
}

func (c *client) ask(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.plain.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	return askOn(ctx, conn)
}

func (c *client) askTLS(ctx context.Context) error {
	dialer := tls.Dialer{Config: &tls.Config{ServerName: webHost, InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", c.secure.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	return askOn(ctx, conn)
}

func (c *client) askHTTP3(ctx context.Context) error {
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{ServerName: webHost, InsecureSkipVerify: true},
		Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, c.secure.String(), t, q)
		},
	}
	defer transport.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+webHost+"/128", nil)
	if err != nil {
		return err
	}
	return read(transport.RoundTrip(r))
}

// askOn asks once on a connection.
func askOn(ctx context.Context, conn net.Conn) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(conn, "GET /128 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", webHost); err != nil {
		return err
	}
	return read(http.ReadResponse(bufio.NewReader(conn), nil))
}

func read(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != 128 {
		return errors.Join(err, fmt.Errorf("%d bytes of 128", n))
	}
	return nil
}
