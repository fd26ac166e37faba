package agent

import (
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// publish makes a new version of what proxies are to know, if anything has changed, and
// sends it to all of them. changed says what of the model can differ from the last version;
// nil: anything.
func (a *Agent) publish(changed *model.Changed) {
	if a.model == nil {
		return
	}
	next := compile.Route(a.model, a.Datapath.ServiceID, compile.Common{Settings: a.Settings, Tickets: a.tickets}, a.exclude(), a.routing, changed)
	if a.routing != nil {
		if _, differs := a.routing.Delta(next, 0); !differs {
			return
		}
	}
	a.version++
	a.routing = next
	a.applied.Revision = a.version
	a.Metrics.version.Set(float64(a.version))
	for _, p := range a.proxies {
		a.publishTo(p)
	}
}

// publishTo sends a proxy the difference between what it has and what it should have. One
// message is on its way at a time, so that a slow proxy skips versions instead of
// gathering a queue. Proxies that drain are told too: they still answer requests.
func (a *Agent) publishTo(p *proxy) {
	if p.peer == nil || p.sent != nil || a.routing == nil || p.acked == a.routing || p.refused == a.routing {
		return
	}
	var config *feedpb.Config
	if p.acked == nil {
		config = a.routing.Snapshot(a.version)
	} else {
		config, _ = p.acked.Delta(a.routing, a.version)
	}
	p.sent, p.sentVersion, p.sentModel = a.routing, a.version, a.model
	p.peer.Send(&feedpb.FromAgent{Message: &feedpb.FromAgent_Config{Config: config}})
}
