{{/* The parsed recipe, with the values that templates need. Fails if the recipe cannot be read. */}}
{{- define "fusechat.recipe" -}}
{{- if not .Values.recipe }}{{ fail "recipe: the recipe's text is needed: --set-file recipe=recipe.yaml" }}{{ end -}}
{{- $recipe := fromYaml .Values.recipe -}}
{{- if hasKey $recipe "Error" }}{{ fail (printf "recipe: can't be read as YAML: %s" $recipe.Error) }}{{ end -}}
{{- $needed := list "name" "run_dir" -}}
{{- if ne .Values.mode "jobs" }}{{ $needed = append $needed "sources" }}{{ end -}}
{{- range $key := $needed }}
{{- if not (index $recipe $key) }}{{ fail (printf "recipe: %s is required" $key) }}{{ end -}}
{{- end -}}
{{- range $key := list "sources" "rewards" }}
{{- if not (kindIs "slice" (index $recipe $key | default list)) }}{{ fail (printf "recipe: %s must be a list" $key) }}{{ end -}}
{{- end -}}
{{- toYaml $recipe -}}
{{- end -}}

{{/* Resources of one served model: dict with placement, engine, name, kind -> group, gpus, cpus, min, max, accelerator. */}}
{{- define "fusechat.group" -}}
{{- $root := .root -}}
{{- $placement := .placement | default dict -}}
{{- $engine := .engine | default dict -}}
{{- $workers := mul (int ($engine.tensor_parallel_size | default 1)) (int ($engine.pipeline_parallel_size | default 1)) -}}
{{- $gpuEach := $placement.num_gpus | default 0 | float64 -}}
{{- /* A share of one machine's cores, "45%", is one CPU, because models run on their own nodes. */ -}}
{{- $cpuEach := 1.0 -}}
{{- if and (hasKey $placement "num_cpus") (not (kindIs "string" $placement.num_cpus)) }}{{ $cpuEach = float64 $placement.num_cpus }}{{ end -}}
{{- $gpus := ceil (mulf $gpuEach $workers) | int -}}
{{- $min := 1 -}}{{- if hasKey $placement "min_replicas" }}{{ $min = int $placement.min_replicas }}{{ end -}}
{{- $max := int ($placement.max_replicas | default 1) -}}
{{- if gt $min $max }}{{ fail (printf "recipe: %s %s: min_replicas %d is more than max_replicas %d" .kind .name $min $max) }}{{ end -}}
{{- if gt $gpus (int $root.Values.gpus.perNode) -}}
{{- fail (printf "recipe: %s %s takes %d GPUs on one node (tensor_parallel_size x pipeline_parallel_size x num_gpus), the largest node has %d (gpus.perNode)" .kind .name $gpus (int $root.Values.gpus.perNode)) -}}
{{- end -}}
{{- $accelerator := $placement.accelerator_type | default "" -}}
{{- if and $accelerator (not (hasKey $root.Values.advanced.workers.acceleratorValues $accelerator)) -}}
{{- fail (printf "recipe: %s %s asks for accelerator_type %s, which no worker group can hold: give its node label in advanced.workers.acceleratorValues" .kind .name $accelerator) -}}
{{- end -}}
{{- if and $accelerator (eq $gpus 0) -}}
{{- fail (printf "recipe: %s %s asks for accelerator_type %s without num_gpus, which no worker group can hold" .kind .name $accelerator) -}}
{{- end -}}
{{- $memory := int (ceil (mulf ($placement.memory_gb | default 0 | float64) $workers)) -}}
kind: {{ .kind }}
name: {{ .name | quote }}
group: {{ printf "%s-%s" .kind (regexReplaceAll "[^a-z0-9]+" .name "-" | trunc 40 | trimSuffix "-") }}
gpus: {{ $gpus }}
cpus: {{ ceil (mulf $cpuEach $workers) | int }}
memoryGb: {{ $memory }}
min: {{ $min }}
max: {{ $max }}
accelerator: {{ $accelerator | quote }}
{{- end -}}

{{/* One group per source that Ray Serve hosts and per reward model with weights: a YAML list under `groups`. */}}
{{- define "fusechat.groups" -}}
{{- $root := . -}}
{{- $recipe := include "fusechat.recipe" . | fromYaml -}}
{{- $groups := list -}}
{{- $names := list -}}
{{- range $recipe.sources }}
{{- if eq (.kind | default "vllm") "vllm" }}
{{- $groups = append $groups (include "fusechat.group" (dict "root" $root "kind" "source" "name" .name "placement" .placement "engine" .engine) | fromYaml) }}
{{- end }}
{{- end }}
{{- range $recipe.rewards }}
{{- if has .kind (list "armorm" "classifier") }}
{{- $group := include "fusechat.group" (dict "root" $root "kind" "reward" "name" .name "placement" .placement) | fromYaml }}
{{- $_ := set $group "max" (max 1 (int $group.min)) }}
{{- $_ := set $group "min" (max 1 (int $group.min)) }}
{{- $groups = append $groups $group }}
{{- end }}
{{- end }}
{{- range $groups }}
{{- if has .group $names }}{{ fail (printf "recipe: two %ss would share the worker group %s: rename %s" .kind .group .name) }}{{ end }}
{{- $names = append $names .group }}
{{- end }}
{{- toYaml (dict "groups" $groups) -}}
{{- end -}}

{{/* The only group of a job's cluster. Sources take turns on it, and the training runs on it. */}}
{{- define "fusechat.batch" -}}
{{- $root := . -}}
{{- $recipe := include "fusechat.recipe" . | fromYaml -}}
{{- $all := (include "fusechat.groups" . | fromYaml).groups | default list -}}
{{- $evaluate := $recipe.evaluate | default dict -}}
{{- $all = append $all (include "fusechat.group" (dict "root" $root "kind" "stage" "name" "evaluate" "placement" $evaluate.placement "engine" $evaluate.engine) | fromYaml) -}}
{{- $training := $recipe.training | default dict -}}
{{- $each := dict "num_gpus" ($training.num_gpus | default 0) "num_cpus" ($training.num_cpus | default 1) -}}
{{- $trainee := include "fusechat.group" (dict "root" $root "kind" "stage" "name" "training" "placement" $each) | fromYaml -}}
{{- $num := int ($training.num_workers | default 1) -}}
{{- $gpus := $trainee.gpus | int -}}{{- $cpus := $trainee.cpus | int -}}{{- $memory := 0 -}}
{{- $accelerators := list -}}
{{- range $all }}
{{- $gpus = max $gpus (int .gpus) }}{{ $cpus = max $cpus (int .cpus) }}{{ $memory = max $memory (int .memoryGb) }}
{{- if .accelerator }}{{ $accelerators = append $accelerators .accelerator }}{{ end }}
{{- end }}
{{- if gt (len (uniq $accelerators)) 1 -}}
{{- fail (printf "recipe: a job's cluster has one kind of node, the sources ask for %s: give them one accelerator_type, or mode: service" (join " and " (uniq $accelerators))) -}}
{{- end -}}
{{- $perPod := $num -}}
{{- if gt (int $trainee.gpus) 0 }}{{ $perPod = max 1 (div $gpus (int $trainee.gpus)) }}{{ end -}}
{{- $cpus = max $cpus (mul (min $perPod $num) (int $trainee.cpus)) -}}
{{- $pods := 1 -}}
{{- if gt (int $trainee.gpus) 0 }}{{ $pods = int (ceil (divf $num $perPod)) }}{{ end -}}
{{- range $all }}
{{- $fit := 1 }}
{{- if gt (int .gpus) 0 }}{{ $fit = max 1 (div $gpus (int .gpus)) }}{{ end }}
{{- $pods = max $pods (int (ceil (divf (max 1 (int .min)) $fit))) }}
{{- end }}
{{- if $root.Values.jobs.workers }}
{{- if lt (int $root.Values.jobs.workers) (int $pods) }}{{ fail (printf "jobs.workers: the recipe needs %d worker pods of %d GPUs, given are %d" (int $pods) (int $gpus) (int $root.Values.jobs.workers)) }}{{ end }}
{{- $pods = int $root.Values.jobs.workers }}
{{- end -}}
kind: job
name: batch
group: batch
gpus: {{ $gpus }}
cpus: {{ $cpus }}
memoryGb: {{ $memory }}
min: {{ $pods }}
max: {{ $pods }}
accelerator: {{ first $accelerators | default "" | quote }}
{{- end -}}

{{/* Changes to the recipe that the cluster needs, in the form of `--set`: a YAML list under `set`. */}}
{{- define "fusechat.set" -}}
{{- $recipe := include "fusechat.recipe" . | fromYaml -}}
{{- $set := list -}}
{{- if not (regexMatch "^[A-Za-z0-9._/:@-]+$" $recipe.run_dir) }}{{ fail (printf "recipe: run_dir %q goes into a command line: letters, digits and . _ / : @ - only" $recipe.run_dir) }}{{ end -}}
{{- if not (or (hasPrefix "/" $recipe.run_dir) (contains "://" $recipe.run_dir)) }}
{{- $set = append $set (printf "run_dir=/runs/%s" (trimPrefix "runs/" $recipe.run_dir)) }}
{{- end }}
{{- toYaml (dict "set" $set) -}}
{{- end -}}
