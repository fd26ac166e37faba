package model

import "time"

// HeaderOp is what a HeaderRule does.
type HeaderOp uint8

const (
	SetHeader     HeaderOp = iota // in place of all fields of that name; an empty value leaves none
	AddHeader                     // beside those that are there
	DefaultHeader                 // unless there is one
	ReplaceHeader                 // in place of all fields of that name, if there is one
	ClearHeaders                  // leaves no field whose name begins with Name
)

// HeaderRule changes a header field on its way through the proxy.
type HeaderRule struct {
	Op    HeaderOp
	Name  string // a token
	Value string // template; without line ends and NUL
	By    string // as in Redirect
	// Success leaves out responses with other statuses than 200, 201, 204, 206, 301 to 304, 307
	// and 308. Status are the statuses that the rule is for, and Types the media types of the
	// body; none: all.
	Success bool
	Status  []int
	Types   []string
	// Levels are those of the steps at which the rule holds, bit n for level n; 0: at all.
	Levels uint64
}

// CORS answers preflight requests and marks responses for other origins (Fetch standard).
type CORS struct {
	// Origins that may read responses: "*", "https://one.example" or with one label
	// wild, "https://*.example.com".
	Origins     []string
	Methods     []string
	Headers     []string
	Expose      []string
	Credentials bool
	MaxAge      time.Duration // for which a preflight's answer may be kept, in seconds
}

// Replacement changes a text that a pod has put into a response.
type Replacement struct {
	From, To string
	Pattern  bool // From is an RE2 expression, whose groups are $1 to $9 in To
}
