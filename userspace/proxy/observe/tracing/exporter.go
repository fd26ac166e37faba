package tracing

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kerngate/kerngate/userspace/text/otlp"

	"github.com/kerngate/kerngate/userspace/model"
)

// Request is what the spans of a sampled request say: one of the proxy itself, and one of its
// asking pods, if it did.
type Request struct {
	Parent Context // Span is zero where the trace begins here
	Server [8]byte // the proxy's span
	Client [8]byte // that of asking pods, whom it is told to
	State  string  // tracestate

	Name                       string
	Method, Scheme, Host, Path string
	Protocol                   string // "1.1"
	UserAgent                  string
	Peer                       netip.Addr // the client
	Status                     int
	Reason, Service, ID        string
	Object                     model.ObjectRef // that has the route
	Begin, End                 time.Time
	Attempts                   []Attempt
}

// Attempt is one pod that was asked.
type Attempt struct {
	Pod   netip.AddrPort
	Begin time.Time
	First time.Time // of the response's first byte, zero if there was none
	Error string    // why it came to nothing
}

// Bounds of what waits for the collector; what is beyond them is dropped, and counted.
const (
	queued    = 2048 // requests that are not spans yet
	spans     = 4096
	batch     = 512
	interval  = time.Second
	timeout   = 10 * time.Second
	lastWords = 2 * time.Second // at the end of the proxy
)

// Exporter sends spans on goroutines of its own. The zero value sends none.
type Exporter struct {
	Exported atomic.Uint64 // spans that a collector has taken
	Failed   atomic.Uint64 // that it has not
	Dropped  atomic.Uint64 // requests without spans, as too many waited

	mu       sync.Mutex
	endpoint string
	stop     func()
	requests atomic.Pointer[chan *Request]
}

// Use has spans go to the endpoint from now on; "" has none go anywhere.
func (e *Exporter) Use(endpoint string, log zerolog.Logger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if endpoint == e.endpoint {
		return
	}
	e.requests.Store(nil)
	if e.stop != nil {
		go e.stop() // which may take a while
		e.stop = nil
	}
	if e.endpoint = endpoint; endpoint == "" {
		return
	}
	if err := e.start(endpoint, log); err != nil {
		log.Error().Err(err).Str("endpoint", endpoint).Msg("traces cannot be sent")
	}
}

func (e *Exporter) start(endpoint string, log zerolog.Logger) error {
	u, err := otlp.ParseEndpoint(endpoint)
	if err != nil {
		return err
	}
	client, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(timeout),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	if err != nil {
		return err
	}
	// What goes wrong is counted and logged by counting; the library's own log is anybody's stderr.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	provider := sdk.NewTracerProvider(
		sdk.WithIDGenerator(chosen{}),
		sdk.WithSampler(sdk.AlwaysSample()), // who is here was sampled
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "kerngate"))),
		sdk.WithBatcher(&counting{SpanExporter: client, exporter: e, log: log, endpoint: endpoint},
			sdk.WithBlocking(), // then requests wait, and are dropped and counted if too many do
			sdk.WithMaxQueueSize(spans), sdk.WithMaxExportBatchSize(batch), sdk.WithBatchTimeout(interval)),
	)
	requests, done := make(chan *Request, queued), make(chan struct{})
	tracer := provider.Tracer("github.com/kerngate/kerngate")
	go func() {
		defer close(done)
		for r := range requests {
			if r == nil {
				return
			}
			r.record(tracer)
		}
	}()
	e.requests.Store(&requests)
	e.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		select {
		case requests <- nil: // those before it are still recorded
			select {
			case <-done:
			case <-ctx.Done():
			}
		case <-ctx.Done(): // the collector is slow, or dead
		}
		provider.Shutdown(ctx)
	}
	return nil
}

// Close sends what waits, for two seconds at most.
func (e *Exporter) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests.Store(nil)
	if e.stop != nil {
		e.stop()
		e.stop = nil
	}
}

// Send hands over a request. It never blocks.
func (e *Exporter) Send(r *Request) {
	requests := e.requests.Load()
	if requests == nil {
		return
	}
	select {
	case *requests <- r:
	default:
		e.Dropped.Add(1)
	}
}

// counting tells what becomes of spans, and logs when that changes.
type counting struct {
	sdk.SpanExporter
	exporter *Exporter
	log      zerolog.Logger
	endpoint string
	failing  bool
}

func (c *counting) ExportSpans(ctx context.Context, list []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, list)
	switch {
	case err == nil:
		c.exporter.Exported.Add(uint64(len(list)))
	default:
		c.exporter.Failed.Add(uint64(len(list)))
	}
	switch failing := err != nil; {
	case failing && !c.failing:
		c.log.Warn().Err(err).Str("endpoint", c.endpoint).Msg("the collector does not take traces; requests are served all the same")
	case !failing && c.failing:
		c.log.Info().Str("endpoint", c.endpoint).Msg("the collector takes traces again")
	}
	c.failing = err != nil
	return err
}

// chosen gives spans the ids that the request was served with.
type chosen struct{}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

func (chosen) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	i := ctx.Value(idsKey{}).(ids)
	return i.trace, i.span
}

func (chosen) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return ctx.Value(idsKey{}).(ids).span
}

// record makes the spans of a request, named and described as OpenTelemetry's semantic
// conventions for HTTP have it. The query is left out: it may hold secrets.
func (r *Request) record(tracer trace.Tracer) {
	traceID := trace.TraceID(r.Parent.Trace)
	ctx := context.Background()
	if r.Parent.Span != [8]byte{} {
		state, err := trace.ParseTraceState(r.State)
		if err != nil {
			state = trace.TraceState{}
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: traceID, SpanID: r.Parent.Span, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true,
		}))
	}
	described := []attribute.KeyValue{
		attribute.String("http.request.method", r.Method), attribute.String("url.scheme", r.Scheme), attribute.String("server.address", r.Host),
		attribute.String("url.path", r.Path), attribute.String("network.protocol.name", "http"), attribute.String("network.protocol.version", r.Protocol),
		attribute.String("client.address", r.Peer.String()), attribute.String("user_agent.original", r.UserAgent),
		attribute.String("kerngate.reason", r.Reason), attribute.String("kerngate.ingress", r.Object.FullName()), attribute.String("kerngate.route_kind", r.Object.Kind),
		attribute.String("kerngate.service", r.Service), attribute.String("kerngate.request_id", r.ID),
	}
	if r.Status > 0 {
		described = append(described, attribute.Int("http.response.status_code", r.Status))
	}
	ctx, server := tracer.Start(context.WithValue(ctx, idsKey{}, ids{traceID, r.Server}), r.Name,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Begin), trace.WithAttributes(described...))
	if len(r.Attempts) > 0 {
		r.recordAttempts(ctx, tracer, traceID)
	}
	if r.Status >= 500 {
		server.SetStatus(codes.Error, r.Reason)
	}
	server.End(trace.WithTimestamp(r.End))
}

func (r *Request) recordAttempts(ctx context.Context, tracer trace.Tracer, traceID trace.TraceID) {
	last := r.Attempts[len(r.Attempts)-1]
	_, span := tracer.Start(context.WithValue(ctx, idsKey{}, ids{traceID, r.Client}), r.Method,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(r.Attempts[0].Begin), trace.WithAttributes(
			attribute.String("http.request.method", r.Method), attribute.String("server.address", last.Pod.Addr().String()),
			attribute.Int("server.port", int(last.Pod.Port())), attribute.Int("http.request.resend_count", len(r.Attempts)-1)))
	for i, a := range r.Attempts {
		pod := attribute.String("server.address", a.Pod.String())
		if a.Error != "" {
			span.AddEvent("attempt failed", trace.WithTimestamp(a.Begin), trace.WithAttributes(pod, attribute.String("error.type", a.Error), attribute.Int("attempt", i+1)))
		}
		if !a.First.IsZero() {
			span.AddEvent("first byte", trace.WithTimestamp(a.First), trace.WithAttributes(pod))
		}
	}
	if last.Error != "" {
		span.SetStatus(codes.Error, last.Error)
	}
	span.End(trace.WithTimestamp(r.End))
}
