package loader

import (
	"fmt"
	"testing"

	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// One endpoint change of a service among a thousand.
func BenchmarkApplyServices(b *testing.B) {
	netnstest.Enter(b)
	d := openTest(b, netnstest.BPFFS(b), func(o *Options) { o.MaxServices, o.MaxBackends, o.MaxSlots = 0, 0, 1<<22 })
	var all []state.Service
	for i := range 1000 {
		s := versionOf(i%256, 9)
		s.Name = fmt.Sprint("ns/s", i)
		all = append(all, s)
	}
	mustApply(b, d, state.State{Services: all})
	for n := 0; b.Loop(); n++ {
		s := all[n%1000]
		s.Backends = s.Backends[:1+n/1000%5]
		if _, err := d.ApplyServices([]state.Service{s}); err != nil {
			b.Fatal(err)
		}
	}
}
