package main

import (
	"net/http"

	"github.com/kerngate/kerngate/test/lab/websocket"
)

// echoWebSocket sends every message back until the client closes.
func echoWebSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" {
		http.Error(w, "Sec-WebSocket-Key is missing", http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_, err = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + websocket.Accept(key) + "\r\n\r\n"))
	if err != nil {
		return
	}
	for {
		frame, err := websocket.Read(buffered)
		if err != nil {
			return
		}
		frame.Mask = nil // only clients mask
		if _, err := conn.Write(frame.Append(nil)); err != nil || frame.Opcode == websocket.Close {
			return
		}
	}
}
