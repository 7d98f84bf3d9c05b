{{/* Values that cannot work are refused before anything is installed, each with one sentence. */}}
{{- define "fusechat.checks" -}}
{{- $recipe := include "fusechat.recipe" . | fromYaml -}}
{{- $serves := ne .Values.mode "jobs" -}}
{{- $works := ne .Values.mode "service" -}}
{{- if and $serves (not .Values.apiKeys.secretName) (not .Values.apiKeys.insecure) }}
{{- fail "apiKeys.secretName: the service needs a secret with keys.yaml (fusechat keys add keys.yaml NAME --role ROLE; kubectl create secret generic NAME --from-file=keys.yaml), or apiKeys.insecure: true" }}
{{- end }}
{{- if and .Values.apiKeys.secretName .Values.apiKeys.insecure }}
{{- fail "apiKeys.insecure: true contradicts apiKeys.secretName: give one of them" }}
{{- end }}
{{- $models := list }}
{{- with $recipe.target }}{{ $models = append $models .model }}{{ end }}
{{- range $recipe.sources }}{{ if eq (.kind | default "vllm") "vllm" }}{{ $models = append $models .model }}{{ end }}{{ end }}
{{- range $recipe.rewards }}{{ if has .kind (list "armorm" "classifier") }}{{ $models = append $models .model }}{{ end }}{{ end }}
{{- $hub := false }}
{{- range $models }}{{ if .hub }}{{ $hub = true }}{{ end }}{{ end }}
{{- if and $hub (eq .Values.hub.access "token") (not .Values.hub.tokenSecretName) }}
{{- fail "hub.tokenSecretName: the recipe has hub models, so a secret with the hub's token is needed, or hub.access: anonymous or offline" }}
{{- end }}
{{- if and (eq .Values.hub.access "offline") (not .Values.storage.models.existingClaim) }}
{{- fail "storage.models.existingClaim: with hub.access: offline the models must be on an existing claim" }}
{{- end }}
{{- $named := list }}
{{- range .Values.advanced.pods.env }}{{ $named = append $named .name }}{{ end }}
{{- range $recipe.sources }}
{{- if and .api_key_env (not (has .api_key_env $named)) (not $.Values.advanced.pods.envFrom) }}
{{- fail (printf "recipe: source %s reads its key from %s: give it in advanced.pods.env or advanced.pods.envFrom" .name .api_key_env) }}
{{- end }}
{{- end }}
{{- $fleet := 0 }}
{{- if $serves }}
{{- range (include "fusechat.groups" . | fromYaml).groups }}{{ $fleet = add $fleet (mul (int .gpus) (int .min)) }}{{ end }}
{{- end }}
{{- $batch := 0 }}
{{- if $works }}
{{- $group := include "fusechat.batch" . | fromYaml }}
{{- $batch = mul (int $group.gpus) (int $group.min) }}
{{- if and .Values.jobs.pipeline.enabled .Values.jobs.training.enabled }}
{{- fail "jobs.training.enabled: the pipeline's job must be finished and disabled first, because both write the same run directory" }}
{{- end }}
{{- if not (or .Values.jobs.pipeline.enabled .Values.jobs.training.enabled) }}
{{- fail "jobs: none is enabled: enable jobs.pipeline or jobs.training, or set mode: service" }}
{{- end }}
{{- end }}
{{- $total := int .Values.gpus.total }}
{{- if and $total (gt (int (add $fleet $batch)) $total) }}
{{- fail (printf "gpus.total: the recipe needs %d GPUs (service %d, jobs %d), there are %d" (int (add $fleet $batch)) (int $fleet) (int $batch) $total) }}
{{- end }}
{{- with .Values.service.upgrade }}
{{- $surge := 0 }}
{{- if eq .type "NewCluster" }}{{ $surge = $fleet }}{{ end }}
{{- if eq .type "NewClusterWithIncrementalUpgrade" }}
{{- $surge = int (ceil (divf (mulf $fleet .maxSurgePercent) 100)) }}
{{- if and $serves (not .gatewayClassName) }}{{ fail "service.upgrade.gatewayClassName: NewClusterWithIncrementalUpgrade needs one" }}{{ end }}
{{- end }}
{{- if and $serves $total (gt (int (add $fleet $batch $surge)) $total) }}
{{- fail (printf "service.upgrade.type: %s starts %d GPUs beside the %d that run, there are %d (gpus.total): set None, or raise gpus.total" .type (int $surge) (int (add $fleet $batch)) $total) }}
{{- end }}
{{- end }}
{{- with .Values.advanced.ingress }}
{{- if and .enabled (not .host) }}{{ fail "advanced.ingress.host: an Ingress needs one" }}{{ end }}
{{- if and .enabled (not .tlsSecretName) (not .allowHttp) }}{{ fail "advanced.ingress.tlsSecretName: keys are sent in headers: give a TLS secret, or allowHttp: true if TLS is terminated in front of the cluster" }}{{ end }}
{{- end }}
{{- if and .Values.advanced.httpRoute.enabled (not .Values.advanced.httpRoute.gateway) }}{{ fail "advanced.httpRoute.gateway: an HTTPRoute needs one" }}{{ end }}
{{- if and (eq .Values.mode "jobs") (or .Values.advanced.ingress.enabled .Values.advanced.httpRoute.enabled) }}{{ fail "advanced.ingress, advanced.httpRoute: with mode: jobs there is no service to reach" }}{{ end }}
{{- $known := list "batch" }}
{{- range (include "fusechat.groups" . | fromYaml).groups }}{{ $known = append $known .name }}{{ end }}
{{- range $name, $_ := .Values.advanced.workers.groups }}
{{- if not (has $name $known) }}{{ fail (printf "advanced.workers.groups: %s is not one of the groups %s" $name (join ", " $known)) }}{{ end }}
{{- end }}
{{- end -}}
