{{- define "loci.name" -}}
{{- if contains "loci" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-loci" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "loci.labels" -}}
app.kubernetes.io/name: loci
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "loci.selector" -}}
app.kubernetes.io/name: loci
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "loci.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "loci.claim" -}}
{{ .Values.store.existingClaim | default (printf "%s-store" (include "loci.name" .)) }}
{{- end }}

{{- define "loci.namespaces" -}}
{{ .Values.watchNamespaces | default (list .Release.Namespace) | toJson }}
{{- end }}

{{/* The namespaces whose fetchers the chart's own NATS knows. */}}
{{- define "loci.fetcherNamespaces" -}}
{{- if .Values.clusterWide }}{{ .Values.fetcher.namespaces | toJson }}{{ else }}{{ include "loci.namespaces" . }}{{ end }}
{{- end }}

{{/* The configuration of the chart's own NATS, for these users. */}}
{{- define "loci.natsConfig" -}}
listen: 0.0.0.0:4222
http: 0.0.0.0:8222
# The default of two minutes loses acknowledged work when the power goes.
jetstream { store_dir: /data, sync_interval: always }
authorization {
  users: [
{{- range . }}
    {user: {{ .name | quote }}, password: {{ .password | quote }}, permissions:
{{ .permissions | trim | indent 6 }}
    }
{{- end }}
  ]
}
{{- end }}

{{- define "loci.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "loci.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The environment of whoever talks to NATS. */}}
{{- define "loci.natsEnv" -}}
- name: RUST_LOG
  value: {{ .Values.log | quote }}
- name: LOCI_STATE
  value: /var/lib/loci
- name: LOCI_STORE
  value: {{ .Values.store.url | default "/var/lib/loci-store" | quote }}
{{- if .Values.hub }}
- name: HF_ENDPOINT
  value: {{ .Values.hub | quote }}
{{- end }}
{{- if .Values.nats.enabled }}
- name: LOCI_NATS_URL_FILE
  value: /etc/loci/nats/url
{{- else }}
- name: LOCI_NATS_URL
  value: {{ .Values.nats.url | quote }}
{{- end }}
- name: LOCI_NATS_REPLICAS
  value: {{ .Values.nats.replicas | quote }}
{{- if and (not .Values.nats.enabled) .Values.nats.credentialsSecret }}
- name: LOCI_NATS_CREDENTIALS
  value: /etc/loci/nats/loci.creds
{{- if .Values.nats.ca }}
- name: LOCI_NATS_CA
  value: /etc/loci/nats/ca.crt
{{- end }}
{{- end }}
{{- if .Values.metrics.enabled }}
- name: LOCI_METRICS
  value: 0.0.0.0:9090
{{- end }}
{{- end }}

{{/* The keys to the bucket. Replicas get none: they follow signed URLs. */}}
{{- define "loci.storeEnv" -}}
{{- if and .Values.store.url .Values.store.secret -}}
envFrom: [{secretRef: {name: {{ .Values.store.secret }}}}]
{{- end }}
{{- end }}

{{/* The role's user at NATS is `user`; at an external one, that of the Secret `secret`, or the one that all have. Mounted, so that who runs takes up what has changed. */}}
{{- define "loci.volumes" -}}
{{- $user := .user }}
{{- $secret := .secret | default .root.Values.nats.credentialsSecret }}
{{- with .root }}
- name: state
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- if not .Values.store.url }}
- name: store
  persistentVolumeClaim: {claimName: {{ include "loci.claim" . }}}
{{- end }}
{{- if .Values.nats.enabled }}
- name: nats
  secret: {secretName: {{ include "loci.name" . }}-nats-{{ $user }}, defaultMode: 0440, items: [{key: url, path: url}]}
{{- else if .Values.nats.credentialsSecret }}
- name: nats
  secret: {secretName: {{ $secret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end }}

{{- define "loci.mounts" -}}
- {name: state, mountPath: /var/lib/loci}
- {name: tmp, mountPath: /tmp}
{{- if not .Values.store.url }}
- {name: store, mountPath: /var/lib/loci-store}
{{- end }}
{{- if or .Values.nats.enabled .Values.nats.credentialsSecret }}
- {name: nats, mountPath: /etc/loci/nats, readOnly: true}
{{- end }}
{{- end }}
