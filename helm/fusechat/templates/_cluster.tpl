{{/* A Ray cluster: dict with root, part (service or job), groups, autoscaling. */}}
{{- define "fusechat.cluster" -}}
{{- $root := .root -}}
{{- $part := .part -}}
{{- $autoscaling := .autoscaling -}}
{{- $advanced := $root.Values.advanced -}}
rayVersion: {{ $advanced.rayVersion | quote }}
{{- if .autoscaling }}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  upscalingMode: Default
  idleTimeoutSeconds: {{ int $root.Values.service.idleTimeoutSeconds }}
  env:
    - name: HOME
      value: /tmp/ray
  securityContext:
    {{- include "fusechat.containerSecurity" $root | nindent 4 }}
  resources:
    requests: {cpu: 500m, memory: 1Gi}
    limits: {cpu: 500m, memory: 1Gi}
{{- end }}
{{- with $advanced.gcs.redisAddress }}
gcsFaultToleranceOptions:
  redisAddress: {{ . | quote }}
  {{- with $advanced.gcs.passwordSecretName }}
  redisPassword:
    valueFrom:
      secretKeyRef:
        name: {{ . }}
        key: password
  {{- end }}
{{- end }}
headGroupSpec:
  serviceType: ClusterIP
  rayStartParams:
    # No engine and no training runs next to Ray's control processes.
    num-cpus: "0"
    num-gpus: "0"
    dashboard-host: 0.0.0.0
    metrics-export-port: "8080"
    object-store-memory: {{ include "fusechat.objectStore" $root }}
  template:
    metadata:
      {{- include "fusechat.podMetadata" (dict "root" $root "part" $part) | nindent 6 }}
    spec:
      {{- include "fusechat.podSpec" $root | trim | nindent 6 }}
      {{- if .autoscaling }}
      restartPolicy: Never
      {{- else }}
      automountServiceAccountToken: false
      {{- end }}
      {{- include "fusechat.placing" (dict "common" $advanced.head) | trim | nindent 6 }}
      {{- if and $advanced.prefetch.enabled (ne $root.Values.hub.access "offline") }}
      initContainers:
        - name: prefetch
          command: [fusechat, fetch, {{ include "fusechat.recipePath" $root }}{{ if eq $part "service" }}, --served{{ end }}]
          {{- include "fusechat.container" $root | nindent 10 }}
          resources:
            {{- include "fusechat.resources" $advanced.head.resources | nindent 12 }}
      {{- end }}
      containers:
        - name: ray-head
          {{- include "fusechat.container" $root | nindent 10 }}
          ports:
            - {name: gcs, containerPort: 6379}
            - {name: dashboard, containerPort: 8265}
            - {name: client, containerPort: 10001}
            - {name: serve, containerPort: 8000}
            - {name: metrics, containerPort: 8080}
          resources:
            {{- include "fusechat.resources" $advanced.head.resources | nindent 12 }}
workerGroupSpecs:
{{- range .groups }}
  {{- $own := get $advanced.workers.groups .name | default dict }}
  - groupName: {{ .group }}
    replicas: {{ int .min }}
    minReplicas: {{ int .min }}
    maxReplicas: {{ int .max }}
    rayStartParams:
      {{- if ne .kind "job" }}
      # The resource that the model requests. It places the model here only, and tells the autoscaler which group to scale.
      resources: {{ printf "\"{\\\"%s:%s\\\": 1}\"" .kind .name | squote }}
      {{- end }}
      metrics-export-port: "8080"
      object-store-memory: {{ include "fusechat.objectStore" $root }}
    template:
      metadata:
        {{- include "fusechat.podMetadata" (dict "root" $root "part" $part) | nindent 8 }}
      spec:
        {{- include "fusechat.podSpec" $root | trim | nindent 8 }}
        automountServiceAccountToken: false
        {{- if $autoscaling }}
        restartPolicy: Never
        {{- end }}
        {{- include "fusechat.placing" (dict "common" $advanced.workers "own" $own "group" .) | trim | nindent 8 }}
        containers:
          - name: ray-worker
            {{- include "fusechat.container" $root | nindent 12 }}
            ports:
              - {name: serve, containerPort: 8000}
              - {name: metrics, containerPort: 8080}
            resources:
              {{- include "fusechat.workerResources" (dict "root" $root "group" .) | nindent 14 }}
{{- end }}
{{- end -}}

{{/* Bytes, as text. Ray's default is a share of the pod's memory, which it puts into /tmp if /dev/shm is smaller. */}}
{{- define "fusechat.objectStore" -}}
{{- $gib := trimSuffix "Gi" .Values.advanced.pods.sharedMemory | int64 -}}
{{- mul $gib 805306368 | toString | quote -}}
{{- end -}}

{{- define "fusechat.resources" -}}
requests: {cpu: {{ .cpu | quote }}, memory: {{ .memory }}}
limits: {cpu: {{ .cpu | quote }}, memory: {{ .memory }}}
{{- end -}}

{{- define "fusechat.workerResources" -}}
{{- $sizes := .root.Values.advanced.workers.resources -}}
{{- $gpus := int .group.gpus -}}
{{- $cpu := add (int .group.cpus) (int $sizes.extraCpus) -}}
{{- $memory := trimSuffix "Gi" $sizes.memoryWithoutGpu | int -}}
{{- if $gpus }}{{ $memory = mul (trimSuffix "Gi" $sizes.memoryPerGpu | int) $gpus }}{{ end }}
{{- $memory = max $memory (int .group.memoryGb) }}
{{- range list "requests" "limits" }}
{{ . }}:
  cpu: {{ $cpu | quote }}
  memory: {{ $memory }}Gi
  {{- if $gpus }}
  {{ $.root.Values.gpus.resource }}: {{ $gpus | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Node selector, tolerations and affinity: dict with common, own, group. */}}
{{- define "fusechat.placing" -}}
{{- $own := .own | default dict -}}
{{- $selector := merge (dict) ($own.nodeSelector | default dict) .common.nodeSelector -}}
{{- $tolerations := concat .common.tolerations ($own.tolerations | default list) -}}
{{- with .group }}
{{- if .accelerator }}{{ $selector = merge (dict $.common.acceleratorLabel (get $.common.acceleratorValues .accelerator)) $selector }}{{ end }}
{{- if int .gpus }}{{ $tolerations = concat $tolerations $.common.gpuTolerations }}{{ end }}
{{- end }}
{{- with $selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with ($own.affinity | default .common.affinity) }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
