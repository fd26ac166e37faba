//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// patience is how long a well-behaved client waits for an answer. A SYN that is lost is sent
// again after a second, so those who lost one are not answered in time.
const patience = time.Second

// visits is what came of well-behaved clients' requests.
type visits struct {
	asked, answered int
	took            []float64 // ms, of those that were answered
}

// visit has so many new clients a second come, each with a connection and a request of its own,
// whether those before have been answered or not.
func visit(l *lab.Lab, perSecond int, duration time.Duration) (v visits) {
	var (
		mu      sync.Mutex
		clients sync.WaitGroup
	)
	began := time.Now()
	for v.asked < int(duration.Seconds()*float64(perSecond)) {
		due := int(time.Since(began).Seconds() * float64(perSecond))
		for v.asked < due {
			v.asked++
			clients.Go(func() {
				at := time.Now()
				if err := request(l); err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				v.answered++
				v.took = append(v.took, time.Since(at).Seconds()*1000)
			})
		}
		time.Sleep(time.Millisecond)
	}
	clients.Wait()
	return v
}

// request asks once, on a connection of its own.
func request(l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := l.Client.Dial(ctx, "tcp", net.JoinHostPort(l.VIP4.String(), "80"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}
