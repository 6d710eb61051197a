{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains "weir" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-weir" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "weir.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "weir.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "weir.driver" -}}
{{ dig "storage" "driver" "filesystem" .Values.config }}
{{- end -}}

{{- define "weir.everywhere" -}}
{{ if eq .Values.ipFamily "IPv6" }}[::]{{ else }}0.0.0.0{{ end }}
{{- end -}}

{{- /* The values' configuration, with what only the chart knows. */ -}}
{{- define "weir.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- if eq (include "weir.driver" .) "filesystem" -}}
{{- fail "replicaCount above 1 needs config.storage.driver: s3, since a volume is one pod's" -}}
{{- end -}}
{{- if ne (dig "state" "driver" "memory" .Values.config) "redis" -}}
{{- fail "replicaCount above 1 needs config.state.driver: redis, through which the replicas find each other" -}}
{{- end -}}
{{- if not .Values.cluster.secretName -}}
{{- fail "replicaCount above 1 needs cluster.secretName, a Secret whose key cluster.secretKey has 16 characters or more" -}}
{{- end -}}
{{- $self := ternary "[${POD_IP}]:5002" "${POD_IP}:5002" (eq .Values.ipFamily "IPv6") -}}
{{- $secret := printf "${file:/run/secrets/%s/%s}" .Values.cluster.secretName .Values.cluster.secretKey -}}
{{- $cluster := dict "listen" (printf "%s:5002" (include "weir.everywhere" .)) "advertise" $self "secret" $secret -}}
{{- $config = set $config "cluster" $cluster -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- /* As much of the configuration as `weir hosts` needs, and no credential: every node gets it. */ -}}
{{- define "weir.hosts" -}}
{{- $hosts := dict -}}
{{- if .Values.config.routing -}}
{{- $hosts = set $hosts "routing" .Values.config.routing -}}
{{- end -}}
{{- if .Values.config.upstreams -}}
{{- $upstreams := dict -}}
{{- range $name, $upstream := .Values.config.upstreams -}}
{{- $bare := pick ($upstream | default dict) "aliases" "type" -}}
{{- with ($upstream | default dict).endpoints -}}
{{- $urls := list -}}
{{- range . -}}
{{- $urls = append $urls (kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "url") .) -}}
{{- end -}}
{{- $bare = set $bare "endpoints" $urls -}}
{{- end -}}
{{- $upstreams = set $upstreams $name $bare -}}
{{- end -}}
{{- $hosts = set $hosts "upstreams" $upstreams -}}
{{- end -}}
{{- toYaml $hosts -}}
{{- end -}}

{{- /* Nothing of a pod's root is written to, and nothing in it may become more than it is. */ -}}
{{- define "weir.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "weir.secretNames" -}}
{{- $names := .Values.secrets -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- $names = append $names .Values.cluster.secretName -}}
{{- end -}}
{{- range uniq $names }}
- {{ . }}
{{- end -}}
{{- end -}}
