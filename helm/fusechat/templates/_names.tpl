{{/* At most 34 characters: KubeRay appends its own and allows 47 for a RayService. */}}
{{- define "fusechat.name" -}}
{{- .Values.advanced.nameOverride | default .Release.Name | trunc 34 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of objects that are not pods. */}}
{{- define "fusechat.labels" -}}
app.kubernetes.io/name: fusechat
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The name contains a hash of the content: another recipe makes another object, and other pods. */}}
{{- define "fusechat.recipeName" -}}
{{- printf "%s-recipe-%s" (include "fusechat.name" .) (sha256sum .Values.recipe | trunc 8) -}}
{{- end -}}

{{- define "fusechat.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "fusechat.recipePath" -}}
{{ .Values.advanced.recipeFolder }}/recipe.yaml
{{- end -}}

{{- define "fusechat.serviceAccount" -}}
{{- with .Values.advanced.serviceAccount -}}
{{- .name | default (ternary (include "fusechat.name" $) "" .create) -}}
{{- end -}}
{{- end -}}

{{- define "fusechat.runsClaim" -}}
{{- .Values.storage.runs.existingClaim | default (printf "%s-runs" (include "fusechat.name" .)) -}}
{{- end -}}

{{- define "fusechat.modelsClaim" -}}
{{- .Values.storage.models.existingClaim | default (printf "%s-models" (include "fusechat.name" .)) -}}
{{- end -}}
