{{/* The image of a container: a list of the root context and the container's part of .Values.image. */}}
{{- define "kerngate.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.image.registry }}{{ . | trimSuffix "/" }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* The agent's settings, as its --config reads them. */}}
{{- define "kerngate.config" -}}
{{- if not (index .Values.config "ingress-ip") -}}
{{- fail "set config.ingress-ip to the addresses that clients dial, for example --set 'config.ingress-ip={203.0.113.10}'" -}}
{{- end -}}
{{ toYaml (pick .Values.config "ingress-ip") }}
{{ toYaml (merge (dict "ingress-class" .Values.ingressClass.name) (omit .Values.config "ingress-ip")) }}
{{- end }}

{{/* What both containers of kerngate-uninstall have: the agent's rights, the node's bpffs, and the agents' state. */}}
{{- define "kerngate.uninstall" -}}
securityContext:
  runAsUser: 0
  runAsNonRoot: false
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
    # SYS_ADMIN finds programs whose pins were lost, which the agent need not do.
    add: [BPF, PERFMON, NET_ADMIN, SYS_ADMIN]
  seccompProfile:
    type: Unconfined
resources:
  requests:
    cpu: 10m
    memory: 32Mi
  limits:
    memory: 256Mi
volumeMounts:
  - name: bpffs
    mountPath: /sys/fs/bpf
    mountPropagation: HostToContainer
  # What agents kept for a start without the API server is removed, too.
  - name: state
    mountPath: /run/kerngate-agent
{{- end }}
