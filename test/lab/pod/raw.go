package main

import (
	"net/http"
	"strings"
	"time"
)

// rawAnswers are written to the connection as they stand; then it is closed.
var rawAnswers = map[string]string{
	"http10":     "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end of the connection",
	"no-length":  "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end of the connection",
	"close":      "",
	"cut-head":   "HTTP/1.1 200 OK\r\nContent-Ty",
	"cut-body":   "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this",
	"cut-chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nonly this",
	"garbage":    "\x16\x03\x01 this is no HTTP at all\r\n\r\n",
	"bad-length": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
	"length-and-chunked": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"3\r\nabc\r\n0\r\n\r\n",
	"bad-chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
	"huge-head":    "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("a", 256<<10) + "\r\nContent-Length: 0\r\n\r\n",
	"no-reason":    "HTTP/1.1 200 \r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"extra":        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
	"hop-headers":  "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: secret\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok",
	"many-interim": strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 3) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
}

// answerRaw answers with one of rawAnswers, or "hang": nothing, for a minute.
func answerRaw(w http.ResponseWriter, name string) {
	text, known := rawAnswers[name]
	if !known && name != "hang" {
		http.Error(w, "no raw answer is called "+name, http.StatusBadRequest)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	if name == "hang" {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, _ = conn.Read(make([]byte, 1)) // until the other side gives up
		return
	}
	_, _ = conn.Write([]byte(text))
}
