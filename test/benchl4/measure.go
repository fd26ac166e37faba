//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
)

const (
	podPort = 7000
	// size is that of a request and of its answer, in bytes.
	size = 128
)

// serve has the pod echo whatever it is sent.
func serve(pod *lab.Pod) error {
	listener, err := pod.Listen("tcp4", fmt.Sprintf(":%d", podPort))
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 64<<10)
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					if n > size { // bulk goes one way
						continue
					}
					if _, err := conn.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return nil
}

// measure makes one round of each kind. It runs in the client's network namespace.
func (w *way) measure() (err error) {
	if w.on != nil {
		if err := w.on(); err != nil {
			return err
		}
		defer func() {
			if offErr := w.off(); err == nil {
				err = offErr
			}
		}()
	}
	// Requests on one connection; the first ones are not counted.
	conn, err := w.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ask(conn, *requests/20+1); err != nil {
		return err
	}
	spent, err := w.spend(func() error { return ask(conn, *requests) })
	if err != nil {
		return err
	}
	w.perRequest = append(w.perRequest, spent/float64(*requests))

	spent, err = w.spend(func() error {
		for range *connections {
			c, err := w.dial()
			if err != nil {
				return err
			}
			if err := ask(c, 1); err != nil {
				return err
			}
			c.(*net.TCPConn).SetLinger(0) // no ports in TIME_WAIT
			c.Close()
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.perConnection = append(w.perConnection, spent/float64(*connections))

	spent, err = w.spend(func() error {
		chunk := make([]byte, 1<<20)
		for range *bulk {
			if _, err := conn.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		w.perMiB = append(w.perMiB, spent/float64(*bulk))
	}
	return err
}

func (w *way) dial() (net.Conn, error) {
	return net.DialTimeout("tcp4", w.address.String(), 20*time.Second)
}

// ask sends requests one after the other.
func ask(conn net.Conn, times int) error {
	conn.SetDeadline(time.Now().Add(time.Minute))
	buffer := make([]byte, size)
	for range times {
		if _, err := conn.Write(buffer); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, buffer); err != nil {
			return err
		}
	}
	return nil
}

// spend returns the CPU time that f took of all that have part in it, in microseconds.
func (w *way) spend(f func() error) (float64, error) {
	before, err := w.cpu()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := w.cpu()
	return float64((after - before).Microseconds()), err
}

// cpu returns the time used so far by this process and by the proxy.
func (w *way) cpu() (time.Duration, error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	total := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	if w.proxy == nil {
		return total, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.proxy.PID))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const utime, ticks = 14 - 3, 100 // proc(5); USER_HZ
	for _, f := range fields[utime : utime+2] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * time.Second / ticks
	}
	return total, nil
}
