package exchange

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/io/spool"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
	"github.com/kerngate/kerngate/userspace/proxy/observe/tracing"
	"github.com/kerngate/kerngate/userspace/proxy/pod/affinity"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/health"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
	"github.com/kerngate/kerngate/userspace/proxy/rules/compress"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
	"github.com/kerngate/kerngate/userspace/text/logformat"
)

// Worker is what the exchanges of one reactor share.
type Worker struct {
	Loop     *reactor.Loop
	Pool     *upstream.Pool
	Balancer *balance.Balancer
	Config   *atomic.Pointer[config.Snapshot]
	Metrics  *Metrics
	Rand     *rand.ChaCha8
	Limiter  *limit.Limiter    // shared with the other workers
	Health   *health.Monitor   // shared with the other workers; nil: nobody watches
	Queue    *Queue            // shared with the other workers
	Overload *overload.Monitor // likewise
	Tracer   *tracing.Exporter // likewise
	Spool    *spool.Dir        // likewise; nil: request bodies are not kept in files
	Log      zerolog.Logger
	Access   AccessLog
	Encoders compress.Pool
	AltSvc   []byte // value of Alt-Svc where HTTP/3 is served, nil: it is not

	tunnels  map[*Exchange]struct{} // that are open
	affinity affinity.Keeper
	retries  retryBudget
	tlsLog   tlsLog
	spoolLog spoolLog
}

// Lingering returns for how long the rest of a body is read after an answer, and for how long
// its client may send nothing of it (package linger).
func (w *Worker) Lingering() (total, pause time.Duration) {
	if w.Overload.Refused() > 0 {
		return linger.Short, linger.Short
	}
	return linger.Total, linger.Pause
}

// LogFormat returns how the access log's lines look, nil for JSON.
func (x *Exchange) LogFormat() *logformat.Format { return x.conf.Settings.AccessLogFormat }

func containsFold(s []byte, lower string) bool {
	for i := 0; i+len(lower) <= len(s); i++ {
		if foldPrefix(s[i:], lower) {
			return true
		}
	}
	return false
}

func foldPrefix(s []byte, lower string) bool {
	for i := range len(lower) {
		if s[i]|0x20 != lower[i]|0x20 {
			return false
		}
	}
	return true
}
