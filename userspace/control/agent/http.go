package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/scrape"
)

// Handler answers /healthz (the control loop turns), /readyz (objects are in force and a
// proxy serves) and /metrics.
func (a *Agent) Handler(metrics *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", check(a.Alive))
	mux.HandleFunc("GET /readyz", check(a.Ready))
	mux.Handle("GET /metrics", scrape.Handler(metrics))
	return mux
}

func check(what func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := what(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// ServeHTTP answers on the address until ctx ends. During an update of the DaemonSet the
// old agent still has the port, so a port that is taken is waited for.
func ServeHTTP(ctx context.Context, address string, handler http.Handler, log zerolog.Logger) error {
	var listen net.ListenConfig
	var l net.Listener
	for logged := false; ; {
		var err error
		if l, err = listen.Listen(ctx, "tcp", address); err == nil {
			break
		}
		if !logged {
			log.Warn().Err(err).Str("address", address).Msg("metrics and health are not served yet; trying again every second")
			logged = true
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
	log.Info().Stringer("address", l.Addr()).Msg("serving /metrics, /healthz and /readyz")
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
