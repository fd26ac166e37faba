package message

// TunnelWebSocket turns an extended CONNECT for websocket (RFC 8441, RFC 9220) into the
// request that opens a WebSocket over HTTP/1.1 (RFC 6455 section 4.1). key is for its
// Sec-WebSocket-Key: 16 random bytes in base64, which must stay as they are. It returns an
// *Error if the request asks for another protocol.
func (r *Request) TunnelWebSocket(key []byte) error {
	if string(r.Protocol) != "websocket" {
		return ErrConnectProtocol
	}
	r.Method, r.MethodID = methodGet, MethodGet
	r.Upgrade = r.Protocol
	for i := range r.Fields {
		switch f := &r.Fields[i]; string(f.Name) {
		case "sec-websocket-key", "sec-websocket-accept":
			f.HopByHop = true // they mean nothing in HTTP/2
		}
	}
	f := r.newField()
	f.Name, f.Value, f.ID, f.HopByHop = webSocketKey, key, FieldOther, false
	return nil
}

var (
	methodGet    = []byte("GET")
	webSocketKey = []byte("Sec-WebSocket-Key")
)
