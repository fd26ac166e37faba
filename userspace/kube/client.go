package kube

import (
	"fmt"
	"os"
	"strings"

	"github.com/go-logr/logr/funcr"
	"github.com/rs/zerolog"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	// defaultNamespace holds the Lease if the agent does not run in a pod.
	defaultNamespace = "kerngate-system"
	namespaceFile    = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// Config returns how to reach the cluster of a kubeconfig file, or of the pod that this
// process runs in if path is empty.
func Config(path, agent string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if path != "" {
		config, err = clientcmd.BuildConfigFromFlags("", path)
	} else if config, err = rest.InClusterConfig(); err != nil {
		err = fmt.Errorf("%w: name a cluster with --kubeconfig or a folder with --manifests", err)
	}
	if err != nil {
		return nil, err
	}
	config.UserAgent = agent
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.QPS, config.Burst = 50, 100 // status of many Ingresses after a change of address
	return config, nil
}

// Client returns a client for the cluster.
func Client(config *rest.Config) (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(config)
}

// Namespace is the namespace of the pod that this process runs in, else a fixed one.
func Namespace() string {
	if raw, err := os.ReadFile(namespaceFile); err == nil && len(raw) > 0 {
		return strings.TrimSpace(string(raw))
	}
	return defaultNamespace
}

// LogTo makes client-go, which has a logger of its own, write to ours.
func LogTo(log zerolog.Logger) {
	log = log.With().Str("library", "client-go").Logger()
	klog.SetLogger(funcr.New(func(_, args string) {
		event := log.Debug()
		if strings.Contains(args, `"error"=`) && !strings.Contains(args, `"error"=null`) {
			event = log.Warn()
		}
		event.Msg(args)
	}, funcr.Options{}))
}
