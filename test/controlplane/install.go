package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// Install applies each object of a file server-side, with all fields checked.
func Install(ctx context.Context, config *rest.Config, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(typed.Discovery()))
	var errs []error
	objects := 0
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		raw, err := yaml.YAMLToJSON(document)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		var o unstructured.Unstructured
		if json.Unmarshal(raw, &o.Object) != nil || len(o.Object) == 0 {
			continue // comments alone
		}
		objects++
		if err := apply(ctx, client, mapper, &o, raw); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err))
		}
	}
	if objects < 8 {
		errs = append(errs, fmt.Errorf("%d objects in %s", objects, file))
	}
	return errors.Join(errs...)
}

func apply(ctx context.Context, client dynamic.Interface, mapper meta.RESTMapper, o *unstructured.Unstructured, raw []byte) error {
	mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	force := true
	_, err = resource.Patch(ctx, o.GetName(), types.ApplyPatchType, raw,
		metav1.PatchOptions{FieldManager: "test", Force: &force, FieldValidation: metav1.FieldValidationStrict})
	return err
}

// Token returns a token of a service account.
func Token(ctx context.Context, config *rest.Config, namespace, name string) (string, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", err
	}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("token of service account %s/%s: %w", namespace, name, err)
	}
	return token.Status.Token, nil
}
