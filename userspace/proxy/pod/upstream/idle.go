package upstream

import "time"

const (
	// maxIdleFrames is how many frames may come at once that bring no request further, and
	// idleFramesPerSecond how many more with each second. A pod may ask by PING for as long as
	// a stream is quiet.
	maxIdleFrames       = 1000
	idleFramesPerSecond = 10
)

// idleFrames counts the frames that have brought nothing further, less those forgiven.
type idleFrames struct {
	used int
	at   int64 // loop time up to which they were
}

// take counts a frame that may bring nothing further, and reports whether that is still within
// what pods may send.
func (f *idleFrames) take(now int64) bool {
	if f.used == 0 {
		f.at = now
	}
	if seconds := (now - f.at) / int64(time.Second); seconds > 0 {
		f.at += seconds * int64(time.Second)
		f.used -= int(min(int64(f.used), seconds*idleFramesPerSecond))
	}
	f.used++
	return f.used <= maxIdleFrames
}
