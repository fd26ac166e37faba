package loader

import (
	"context"
	"time"

	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/skmsg"
)

// SkMsg asks for the short way between the proxy and pods of this node.
type SkMsg struct {
	On     bool
	UID    uint32 // of proxies
	Cgroup string // a cgroup v2 folder that all pods are below; "": the root of those mounted
}

// testLimit bounds the self-test. It takes a second or two.
const testLimit = 30 * time.Second

// openJoins attaches what joins connections, if that is asked for and the kernel passes the
// self-test. If not, that is told and connections are plain: it is no reason not to serve.
func (d *Datapath) openJoins(o SkMsg) {
	if !o.On {
		if err := skmsg.Remove(d.folder); err != nil {
			d.log.Warn().Err(err).Msg("cannot detach kg_sockops of an earlier agent, which had --sk-msg")
		}
		return
	}
	f := attach.Feature{Name: "sk_msg", Kernel: "5.15.197", NeededFor: "the short way to pods of this node (--sk-msg)"}
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	err := skmsg.Test(ctx, o.Cgroup)
	if err == nil {
		d.joins, err = skmsg.Open(skmsg.Options{UID: o.UID, Cgroup: o.Cgroup, Folder: d.folder})
	}
	if f.Present = err == nil; err != nil {
		f.ReplacedBy = "TCP"
		d.log.Warn().Err(err).Msg("--sk-msg stays off: connections to pods of this node are plain TCP")
		// What an earlier agent of another kernel or cgroup left must not go on either.
		if err := skmsg.Remove(d.folder); err != nil {
			d.log.Warn().Err(err).Msg("cannot detach kg_sockops of an earlier agent")
		}
	}
	d.features = append(d.features, f)
}

// Joins reports whether connections of proxies to pods of this node can be joined.
func (d *Datapath) Joins() bool { return d.joins != nil }
