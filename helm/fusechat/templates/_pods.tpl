{{- define "fusechat.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.advanced.security.uid }}
runAsGroup: {{ int .Values.advanced.security.uid }}
fsGroup: {{ int .Values.advanced.security.uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fusechat.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: {{ .Values.advanced.security.readOnlyRootFilesystem }}
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fusechat.env" -}}
- name: HOME
  value: /tmp
- name: HF_HOME
  value: /models/hub
- name: FUSECHAT_CACHE
  value: /models/fusechat
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
- name: VLLM_NO_USAGE_STATS
  value: "1"
- name: HF_HUB_DISABLE_TELEMETRY
  value: "1"
{{- if eq .Values.hub.access "offline" }}
- name: HF_HUB_OFFLINE
  value: "1"
{{- else if .Values.hub.tokenSecretName }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.hub.tokenSecretName }}
      key: token
{{- end }}
{{- with .Values.advanced.pods.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fusechat.mounts" -}}
- name: recipe
  mountPath: {{ include "fusechat.recipePath" . }}
  subPath: recipe.yaml
  readOnly: true
- name: runs
  mountPath: /runs
- name: models
  mountPath: /models
- name: tmp
  mountPath: /tmp
- name: shm
  mountPath: /dev/shm
{{- if .Values.apiKeys.secretName }}
- name: keys
  mountPath: /etc/fusechat/keys
  readOnly: true
{{- end }}
{{- with .Values.advanced.pods.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fusechat.volumes" -}}
- name: recipe
  configMap:
    name: {{ include "fusechat.recipeName" . }}
- name: runs
  persistentVolumeClaim:
    claimName: {{ include "fusechat.runsClaim" . }}
- name: models
  persistentVolumeClaim:
    claimName: {{ include "fusechat.modelsClaim" . }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.advanced.pods.scratch }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.advanced.pods.sharedMemory }}
{{- if .Values.apiKeys.secretName }}
- name: keys
  secret:
    secretName: {{ .Values.apiKeys.secretName }}
    defaultMode: 0440
{{- end }}
{{- with .Values.advanced.pods.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The part of a pod's spec that head and workers share. */}}
{{- define "fusechat.podSpec" -}}
{{- $pods := .Values.advanced.pods -}}
{{- with include "fusechat.serviceAccount" . }}
serviceAccountName: {{ . }}
{{- end }}
{{- with $pods.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
terminationGracePeriodSeconds: {{ int $pods.terminationGracePeriodSeconds }}
securityContext:
  {{- include "fusechat.podSecurity" . | nindent 2 }}
volumes:
  {{- include "fusechat.volumes" . | nindent 2 }}
{{- end -}}

{{- define "fusechat.container" -}}
image: {{ include "fusechat.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "fusechat.containerSecurity" . | nindent 2 }}
env:
  {{- include "fusechat.env" . | nindent 2 }}
{{- with .Values.advanced.pods.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- include "fusechat.mounts" . | nindent 2 }}
{{- end -}}

{{/* dict with root and part. No chart version here: it would start a second GPU fleet. */}}
{{- define "fusechat.podMetadata" -}}
labels:
  fusechat/release: {{ .root.Release.Name }}
  fusechat/part: {{ .part }}
  {{- with .root.Values.advanced.pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.advanced.pods.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
