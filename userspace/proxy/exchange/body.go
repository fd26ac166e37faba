package exchange

import "github.com/kerngate/kerngate/userspace/proxy/message"

// requestBody is the request's body, on its way from the client to a pod.
type requestBody struct {
	store    bodyStore
	gathered bool // it was read whole before a pod was chosen: no trailers go on behind it
	slow     slowBody
	trailers []message.Field // those that go on
}
