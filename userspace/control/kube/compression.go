package kube

import (
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/compression"
)

const annotationCompression = vocabularyOwn + "compression" // "off", or codings in order of preference

// compression returns how the Ingress wants responses to be compressed, nil if it does not
// say. ingress-nginx knows that for all Ingresses alone.
func (a annotations) compression() *model.Compression {
	v, set := a.text(annotationCompression)
	switch {
	case !set:
		return nil
	case v == "off":
		return &model.Compression{}
	}
	var names []string
	for name := range strings.SplitSeq(v, ",") {
		names = append(names, strings.TrimSpace(name))
	}
	if _, err := compression.ParseEncodings(names); err != nil {
		a.warn("AnnotationInvalid", annotationCompression, err.Error()+`; want "off" or some of zstd, br and gzip by commas; what the agent's --compression says is used`)
		return nil
	}
	return &model.Compression{Encodings: names}
}
