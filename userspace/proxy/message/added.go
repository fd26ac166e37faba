package message

// Added is a field that the proxy adds to a message.
type Added struct {
	Name  string
	Value []byte
}
