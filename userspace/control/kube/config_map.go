package kube

// ConfigMap returns the data of a ConfigMap in the Ingress's namespace.
func (r references) ConfigMap(config string) (map[string]string, error) {
	return r.lookup.configMap(name{r.namespace, config})
}
