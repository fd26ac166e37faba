//go:build linux && applications

package applications

import (
	"strconv"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

const mqttHost = "mqtt.test"

// mosquitto is asked over WebSocket, which Debian's mosquitto_pub does not speak: the client is
// Eclipse Paho's.
var mosquitto = application{
	name: "Mosquitto over WebSocket", source: "Debian: mosquitto; client Eclipse Paho for Go (test/applications/programs/mqtt)",
	programs: []string{"mosquitto"}, built: []string{"mqtt"},
	version: func(t *testing.T) string {
		return "mosquitto " + versionOf(t, "mosquitto", "-h") + ", paho.mqtt.golang " + moduleVersion(t, "mqtt", "github.com/eclipse/paho.mqtt.golang")
	},
	publish: func(s *site) {
		pod := s.addPod("mosquitto-1")
		s.serve(pod, 80, lab.Command{Path: "mosquitto", Args: []string{"-c", s.file("mosquitto.conf", mosquittoConfiguration)}})
		s.add(publication{host: mqttHost, pod: pod, port: 80})
	},
	conversations: []conversation{
		{does: "300 messages of 100 bytes, QoS 0, 10 on their way", talk: mqttTalk(false, 0, 300, 100, 10), want: mqttGot(300)},
		{does: "300 messages of 100 bytes, QoS 2, 10 on their way, over TLS", talk: mqttTalk(true, 2, 300, 100, 10), want: mqttGot(300)},
		{does: "20 messages of 500 kB, QoS 0, one after another", talk: mqttTalk(false, 0, 20, 500_000, 1), want: mqttGot(20)},
		{does: "20 messages of 500 kB, QoS 0, one after another, over TLS", talk: mqttTalk(true, 0, 20, 500_000, 1), want: mqttGot(20)},
		{does: "20 messages of 500 kB, QoS 1, 4 on their way, over TLS", talk: mqttTalk(true, 1, 20, 500_000, 4), want: mqttGot(20)},
	},
}

func TestMosquitto(t *testing.T) { run(t, &mosquitto) }

// Mosquitto 2.0.11 does not start without a listener that is none for WebSocket.
const mosquittoConfiguration = `
user root
persistence false
allow_anonymous true
listener 1883 127.0.0.1
listener 80
protocol websockets
`

func mqttGot(count int) string {
	n := strconv.Itoa(count)
	return "exit status 0\nsent " + n + ", received " + n + ", missing 0, repeated 0, damaged 0"
}

// mqttTalk publishes messages and receives them on another connection, and returns how many came.
func mqttTalk(secure bool, qos, count, size, window int) func(*way) string {
	return func(w *way) string {
		if size > 4096 {
			// Mosquitto 2.0.11 reads 4 KiB of a WebSocket in each turn of its loop, and turns ten times
			// a second when no other client sends: a message of 500 kB then takes 12 s, with or
			// without an ingress. This client keeps it turning.
			other, err := w.published[0].pod.Start(lab.Command{Path: w.program("mqtt"), Args: []string{"tcp://127.0.0.1:1883", "0", "10000000", "10", "1"}})
			must(w.t, err)
			defer other.Kill()
		}
		scheme := "ws://"
		if secure && w.name != direct {
			scheme = "wss://"
		}
		return outcomeText(w.run(w.program("mqtt"), scheme+mqttHost+"/mqtt",
			strconv.Itoa(qos), strconv.Itoa(count), strconv.Itoa(size), strconv.Itoa(window)))
	}
}
