package upstream

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/leaky"
)

// TestIdleFrames: a pod may ask by PING whether the proxy is there for as long as a stream is quiet,
// but not as fast as it can.
func TestIdleFrames(t *testing.T) {
	burst, slack := int(idleRate.Burst), 2*int(idleRate.PerSecond)
	for _, c := range []struct {
		every   time.Duration
		n, want int // taken
	}{
		{10 * time.Second, 100_000, 100_000},
		{100 * time.Millisecond, 100_000, 100_000},
		{0, 100_000, burst},
		{50 * time.Millisecond, 100_000, 2*burst - 1}, // twice what is forgiven
	} {
		var f leaky.Bucket
		taken, now := 0, int64(time.Hour)
		for ; taken < c.n && f.Take(1, now, idleRate); taken++ {
			now += int64(c.every)
		}
		if taken < c.want-slack || taken > c.want+slack {
			t.Errorf("one each %v: %d of %d are taken, want %d", c.every, taken, c.n, c.want)
		}
	}
}
