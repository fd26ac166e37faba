package ingressnginx

import "github.com/kerngate/kerngate/userspace/model"

// tracing reads whether requests are traced, and under which name.
func (r *reader) tracing() {
	var t model.Trace
	if _, _, set := r.text("enable-opentelemetry"); set {
		on := r.boolean("enable-opentelemetry", true)
		t.Enabled = &on
	}
	if _, _, set := r.text("opentelemetry-trust-incoming-span"); set {
		trust := r.boolean("opentelemetry-trust-incoming-span", true)
		t.Trust = &trust
	}
	if v, ok := r.template("opentelemetry-operation-name", "spans are called by the request's method"); ok {
		t.Operation = v
	}
	if t != (model.Trace{}) {
		r.want().Trace = &t
	}
}
