package model

import "fmt"

// Locations are parts of a route's paths that are answered without its service, by rules of
// their own: nginx's location blocks in snippets.
type Locations struct {
	// Server are those of the host. They compete with the route by nginx's precedence.
	Server []Location
	// Nested are those within the route, considered once it has been chosen.
	Nested []Location
}

// LocationMatch is how the path of a Location is compared (nginx: its modifier).
type LocationMatch uint8

const (
	LocationPrefix      LocationMatch = iota // by characters, not by path elements
	LocationFinalPrefix                      // "^~": a prefix; if it is the longest, no expression is tried
	LocationExact                            // "="
	LocationPattern                          // "~": an RE2 expression that is found anywhere in the path
	LocationPatternFold                      // "~*": the same without case
)

// Location answers the requests of some paths. Its Policy says how; what that lets pass has
// no service and is answered with 503. Expressions are tried in the order of the list.
type Location struct {
	Match  LocationMatch
	Path   string
	Policy *Policy
	// Inner are considered once this one has been chosen.
	Inner []Location
}

// String returns the modifier and the path as nginx writes them.
func (l Location) String() string {
	modifier := [...]string{LocationPrefix: "", LocationFinalPrefix: "^~ ", LocationExact: "= ", LocationPattern: "~ ", LocationPatternFold: "~* "}[l.Match]
	return fmt.Sprintf("location %s%s", modifier, l.Path)
}
