package model

import (
	"net/netip"
	"time"
)

// Limits bounds what one client address may do. Each proxy counts for itself.
type Limits struct {
	Rates       []Rate
	Connections uint32         // requests at the same time, 0: no limit
	Exempt      []netip.Prefix // sources that are not counted
	Status      int            // of what is refused
	Scope       string         // routes of the same scope count together
}

// Rate is a number of requests in a time.
type Rate struct {
	Requests uint32
	Period   time.Duration
	Burst    uint32 // that may come at once beyond the rate
}
