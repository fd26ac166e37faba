package http1

// Added is a field that the proxy adds to a message.
type Added struct {
	Name  string
	Value []byte
}

// AppendAdded appends a field line for each field.
func AppendAdded(dst []byte, fields []Added) []byte {
	for i := range fields {
		dst = AppendField(dst, fields[i].Name, fields[i].Value)
	}
	return dst
}
