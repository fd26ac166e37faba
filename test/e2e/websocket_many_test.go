//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/websocket"
)

// talker is one WebSocket that echoes a message again and again until it ends.
type talker struct {
	socket *websocket.Client
	echoes int
	ended  time.Time
	err    error
}

const closeGoingAway = 1001

// A thousand WebSockets talk on while their pods leave the service, the agent is killed and
// started again, and the proxy is replaced. The drained proxy ends them when its drain limit
// is reached, not before, and says so to every one.
func TestThousandWebSockets(t *testing.T) {
	const (
		sockets = 1000
		limit   = 8 * time.Second
		pause   = 500 * time.Millisecond // between two messages of one
	)
	s := prepareSite(t, 1, []app{{"web", 3}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--drain-timeout="+limit.String())
	s.start()

	talkers := make([]*talker, sockets)
	var opening sync.WaitGroup
	for first := range 20 {
		opening.Go(func() {
			for i := first; i < sockets; i += 20 {
				ws, err := s.openWebSocket()
				if err != nil {
					t.Errorf("open WebSocket %d: %v", i, err)
					return
				}
				talkers[i] = &talker{socket: ws}
			}
		})
	}
	opening.Wait()
	if t.Failed() {
		return
	}
	stop := make(chan struct{})
	var talking sync.WaitGroup
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }); talking.Wait() }
	t.Cleanup(end)
	for i, c := range talkers {
		talking.Go(func() {
			defer func() { c.ended = time.Now(); c.socket.Close() }()
			timer := time.NewTimer(time.Duration(i) * pause / sockets) // not all at once
			defer timer.Stop()
			for {
				select {
				case <-stop:
					return
				case <-timer.C:
				}
				if c.err = c.socket.Echo(fmt.Appendf(nil, "message %d of %d", c.echoes, i), 10*time.Second); c.err != nil {
					return
				}
				c.echoes++
				timer.Reset(pause)
			}
		})
	}

	// The pods that hold the WebSockets leave the service, one after the other.
	for _, pod := range s.pods["web"] {
		s.publish("web", pod)
		s.onlyAnswer(pod.Name)
	}
	s.Agent.Kill()
	s.publish("web", s.pods["web"]...)
	must(t, s.Kerngate.Start())
	must(t, lab.Until(20*time.Second, "agent that listens to signals", func() error {
		_, err := s.Ctl("problems") // which the agent alone knows
		return err
	}))
	before, err := s.ProxyPIDs()
	must(t, err)
	replaced := time.Now()
	must(t, s.Agent.Signal(syscall.SIGHUP))
	must(t, lab.Until(limit+15*time.Second, "end of the replaced proxy", func() error {
		pids, err := s.ProxyPIDs()
		if err == nil && (len(pids) != 1 || slices.Equal(pids, before)) {
			err = fmt.Errorf("proxies %v, before %v", pids, before)
		}
		return err
	}))
	lived := time.Since(replaced)
	end()

	early, told, echoes := 0, 0, 0
	var other error
	for _, c := range talkers {
		var closed *websocket.CloseError
		switch {
		case c.ended.Sub(replaced) < limit:
			early++
			other = c.err
		case errors.As(c.err, &closed) && closed.Code == closeGoingAway:
			told++
		default:
			other = c.err
		}
		echoes += c.echoes
	}
	report(t, "%d WebSockets echoed %d messages; the replaced proxy lived %s; %d were told that it goes away", sockets, echoes, lived.Round(10*time.Millisecond), told)
	if early > 0 || told < sockets {
		t.Errorf("%d of %d WebSockets were cut before the drain limit of %s, %d got a close frame 1001; another end: %v", early, sockets, limit, told, other)
	}
}
