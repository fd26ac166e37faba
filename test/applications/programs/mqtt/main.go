// Command mqtt publishes messages over a WebSocket and subscribes to them over another, and counts
// what was sent and what came:
//
//	mqtt URL QOS COUNT SIZE WINDOW
//
// WINDOW messages may be on their way. Prints "sent 3, received 3, missing 0, repeated 0, damaged 0"
// and, of the first messages that are missing, their numbers.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mqtt:", err)
		os.Exit(1)
	}
}

// patience is how long nothing may arrive before the rest is missing.
const patience = 20 * time.Second

func run(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("usage: mqtt URL QOS COUNT SIZE WINDOW")
	}
	url := args[0]
	var numbers [4]int
	for i, arg := range args[1:] {
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	qos, count, size, window := byte(numbers[0]), numbers[1], numbers[2], numbers[3]

	topic := fmt.Sprintf("kerngate/%d", os.Getpid()) // several may run at once
	var lost lostConnections
	subscriber, err := connect(url, "subscriber", &lost)
	if err != nil {
		return err
	}
	defer subscriber.Disconnect(100)
	publisher, err := connect(url, "publisher", &lost)
	if err != nil {
		return err
	}
	defer publisher.Disconnect(100)

	arrived := make(chan []byte, min(count, 1000))
	if err := wait(subscriber.Subscribe(topic, qos, func(_ mqtt.Client, m mqtt.Message) { arrived <- m.Payload() })); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}

	seen := make([]int, count)
	sent, received, damaged := 0, 0, 0
	timer := time.NewTimer(patience)
receiving:
	for received < count {
		for sent < count && sent-received < window {
			if err := wait(publisher.Publish(topic, qos, false, payload(sent, size))); err != nil {
				return fmt.Errorf("publish message %d: %w", sent, err)
			}
			sent++
		}
		timer.Reset(patience)
		select {
		case got := <-arrived:
			received++
			number := count
			if len(got) >= 8 {
				number = int(binary.BigEndian.Uint64(got))
			}
			if number >= count || !bytes.Equal(got, payload(number, size)) {
				damaged++
				continue
			}
			seen[number]++
		case <-timer.C:
			if sent == count {
				break receiving
			}
			window += sent - received // those on their way are lost: go on without them
		}
	}
	repeated := 0
	var missing []int
	for number, times := range seen {
		if times == 0 {
			missing = append(missing, number)
		} else {
			repeated += times - 1
		}
	}
	fmt.Printf("sent %d, received %d, missing %d, repeated %d, damaged %d", sent, received, len(missing), repeated, damaged)
	if len(missing) > 0 {
		fmt.Printf(" (%v)", missing[:min(len(missing), 10)])
	}
	fmt.Println(lost.String())
	return nil
}

// payload is message number n: the number, and bytes that follow from it.
func payload(n, size int) []byte {
	p := make([]byte, max(size, 8))
	seed := [32]byte{}
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	_, _ = rand.NewChaCha8(seed).Read(p[8:]) // never fails
	binary.BigEndian.PutUint64(p, uint64(n))
	return p
}

// connect does not repeat what fails: a lost connection is a result.
func connect(url, name string, lost *lostConnections) (mqtt.Client, error) {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).
		SetClientID(fmt.Sprintf("%s-%d", name, os.Getpid())).SetAutoReconnect(false).SetConnectTimeout(20 * time.Second).SetWriteTimeout(60 * time.Second).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost.add(name, err) }))
	if err := wait(c.Connect()); err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", name, url, err)
	}
	return c, nil
}

func wait(t mqtt.Token) error {
	if !t.WaitTimeout(60 * time.Second) {
		return fmt.Errorf("nothing came back for 60 s")
	}
	return t.Error()
}

// lostConnections are those that ended before the client ended them.
type lostConnections struct {
	mu  sync.Mutex
	all []string
}

func (l *lostConnections) add(name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf("%s lost its connection: %v", name, err))
}

func (l *lostConnections) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := ""
	for _, one := range l.all {
		text += ", " + one
	}
	return text
}
