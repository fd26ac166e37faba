package model

// Rewrite replaces the path that pods get.
type Rewrite struct {
	// Target is the new path, in which $1 to $9 stand for what the groups of a Regexp
	// route's path have matched. A query in it goes before the client's. It is no
	// template otherwise.
	Target string
}

// Redirect answers requests with another place to go.
type Redirect struct {
	Path   string // only requests for exactly this path, "": all
	Status int    // 301, 302, 303, 307 or 308; or, without Target, any other
	Target string // template: a URL or a path; "": none
	// Pattern is an RE2 expression: only paths in which it is found, "": all. In Target $1 to
	// $9 then stand for what its groups have matched.
	Pattern string
	Query   bool // the request's query goes after that of Target
	// Body is a template: the text that is answered, of the media type Type, where there is no
	// Target.
	Body, Type string
	By         string // what asked for it, such as an annotation's key; for people alone
}
