package policy

import (
	"errors"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// Pace bounds how fast a response goes to its client.
type Pace struct {
	rate, after uint64 // bytes per second; bytes without a bound
}

func compilePace(p *feedpb.Pace) (*Pace, error) {
	if p == nil {
		return nil, nil
	}
	if p.BytesPerSecond == 0 || p.BytesPerSecond > 1<<50 || p.After > 1<<50 {
		return nil, errors.New("the rate is 0, or beyond all networks")
	}
	return &Pace{rate: p.BytesPerSecond, after: p.After}, nil
}

// Wait returns how long to wait before more is sent, of a response of which so many bytes
// were sent since its beginning; 0: more may go now.
func (p *Pace) Wait(sent uint64, since time.Duration) time.Duration {
	if sent <= p.after {
		return 0
	}
	due := time.Duration(float64(sent-p.after) / float64(p.rate) * float64(time.Second))
	return max(due-since, 0)
}
