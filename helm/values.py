"""The chart's values: the one truth that values.yaml, values.schema.json and the README's table are made from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Object = dict[str, Any]
"""A piece of a Kubernetes object, taken as it is."""
Quantity = str
"""As Kubernetes has them: `500m`, `16Gi`."""


class Values(BaseModel):
    """A part of the values: closed, each field documented right under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Image(Values):
    """The image that the Dockerfile builds."""

    repository: str = Field(default="fusechat", min_length=1)
    """Registry and name."""
    tag: str = "0.1.0"
    """Tag; a digest goes before it."""
    digest: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """`sha256:...`; names the image whatever happens to the tag."""
    pullPolicy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes fetch it."""
    pullSecrets: list[str] = []
    """Names of secrets with registry credentials."""


class ApiKeys(Values):
    """Who may call the service."""

    secretName: str = ""
    """A secret whose `keys.yaml` is a key file (`fusechat keys add keys.yaml NAME --role ROLE`)."""
    insecure: bool = False
    """Lets anybody call who reaches the service; then no secret is needed."""


class Hub(Values):
    """How models with `hub:` are fetched."""

    access: Literal["token", "anonymous", "offline"] = "token"
    """`offline` fetches nothing: the models' volume must hold them."""
    tokenSecretName: str = ""
    """A secret whose `token` is the hub's; needed with `token` where the recipe has hub models."""


class Claim(Values):
    """A volume."""

    existingClaim: str = ""
    """A claim that is there already; none makes one, which outlives the release."""
    size: Quantity = "100Gi"
    """Of the claim that is made."""
    storageClass: str = ""
    """None takes the cluster's default."""
    accessMode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """`ReadWriteOnce` is for a cluster of one node."""


class ModelsClaim(Claim):
    """The models' volume: fetched once, read by every pod."""

    size: Quantity = "1Ti"
    """Of the claim that is made: all weights of the recipe in bfloat16, 2 bytes a parameter."""


class Storage(Values):
    """What outlives pods."""

    runs: Claim = Claim()
    """The run directory, at /runs; a relative `run_dir` of the recipe lies there."""
    models: ModelsClaim = ModelsClaim()
    """The models' cache, at /models."""


class Gpus(Values):
    """What the Kubernetes cluster has."""

    perNode: int = Field(default=8, ge=1)
    """GPUs of its largest node: a source's TP x PP GPUs must lie on one."""
    total: int = Field(default=0, ge=0)
    """All GPUs that the release may use, for the check of the plan and of upgrades; 0 checks neither."""
    resource: str = "nvidia.com/gpu"
    """The device plugin's name of a GPU."""


class Resources(Values):
    """Requests and limits alike, so that Ray and Kubernetes count the same."""

    cpu: Quantity = "4"
    """Cores."""
    memory: Quantity = "16Gi"
    """Memory."""


class WorkerResources(Values):
    """A worker pod; CPUs and GPUs follow from the recipe."""

    memoryPerGpu: str = Field(default="64Gi", pattern=r"^[1-9][0-9]*Gi$")
    """Host memory for each GPU of a pod."""
    memoryWithoutGpu: str = Field(default="8Gi", pattern=r"^[1-9][0-9]*Gi$")
    """Host memory of a pod without GPUs."""
    extraCpus: int = Field(default=1, ge=1)
    """Cores beyond what the recipe's placements name: Ray's own processes and the tokenizer."""


class Upgrade(Values):
    """What a change of the pods does to the running service."""

    type: Literal["NewCluster", "None", "NewClusterWithIncrementalUpgrade"] = "NewCluster"
    """`NewCluster` starts a second fleet, then moves the traffic; `None` leaves the running one as it is."""
    gatewayClassName: str = ""
    """For NewClusterWithIncrementalUpgrade: the Gateway API class that shifts the traffic."""
    maxSurgePercent: int = Field(default=100, ge=1, le=100)
    """For NewClusterWithIncrementalUpgrade: how much of the second fleet is up at once."""
    stepSizePercent: int = Field(default=10, ge=1, le=100)
    """For NewClusterWithIncrementalUpgrade: traffic moved a step."""
    intervalSeconds: int = Field(default=60, ge=1)
    """For NewClusterWithIncrementalUpgrade: seconds between steps."""


class Service(Values):
    """The RayService."""

    upgrade: Upgrade = Upgrade()
    """What a change of the pods does."""
    autoscaling: bool = True
    """Ray's autoscaler (v2) starts and ends worker pods between `min_replicas` and `max_replicas` of each placement."""
    idleTimeoutSeconds: int = Field(default=600, ge=10)
    """After which an idle worker pod ends."""
    unhealthySeconds: int = Field(default=1800, ge=60)
    """How long a new cluster may take until it serves; fetching 70B weights takes most of it."""


class Job(Values):
    """A RayJob."""

    enabled: bool = True
    """Whether there is one."""
    commands: list[Literal["run", "prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report"]] = Field(
        default=["run"], min_length=1
    )
    """Commands of `fusechat`, one after the other; a retry skips what is done."""
    activeDeadlineSeconds: int = Field(default=604800, ge=60)
    """The whole time limit."""
    backoffLimit: int = Field(default=3, ge=0)
    """Retries, each on a new cluster."""
    ttlSecondsAfterFinished: int = Field(default=3600, ge=1)
    """After which the finished job's cluster is removed."""


class TrainingJob(Job):
    """The training alone, e.g. on other nodes than the sampling."""

    enabled: bool = False
    """Enable it once a pipeline job that ended with `select` is done; both write one run directory."""
    commands: list[Literal["run", "prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report"]] = Field(
        default=["sft", "dpo", "evaluate", "report"], min_length=1
    )
    """Commands of `fusechat`, one after the other."""


class Jobs(Values):
    """The RayJobs."""

    pipeline: Job = Job()
    """The pipeline."""
    training: TrainingJob = TrainingJob()
    """The training alone."""
    workers: int = Field(default=0, ge=0)
    """Worker pods of a job's cluster; 0 takes as many as the recipe needs, more let sources grow to `max_replicas`."""
    kueueQueue: str = ""
    """A Kueue local queue: jobs are made suspended, and Kueue starts them."""


class PodSecurity(Values):
    """Beyond what is fixed: no root, no added capability, no privilege escalation, seccomp RuntimeDefault."""

    uid: int = Field(default=10001, ge=1)
    """User, and group of files."""
    readOnlyRootFilesystem: bool = True
    """Only the mounted volumes can be written."""


class Pods(Values):
    """All pods of Ray."""

    annotations: dict[str, str] = {}
    """A changed one starts a new cluster."""
    labels: dict[str, str] = {}
    """A changed one starts a new cluster."""
    env: list[Object] = []
    """Kubernetes env entries."""
    envFrom: list[Object] = []
    """Kubernetes envFrom entries, e.g. a secret with an endpoint's key."""
    runtimeClassName: str = ""
    """E.g. `nvidia`."""
    priorityClassName: str = ""
    """Of all pods."""
    sharedMemory: str = Field(default="16Gi", pattern=r"^[1-9][0-9]*Gi$")
    """Of /dev/shm: Ray's object store, which takes three quarters, and NCCL; counts as the pod's memory."""
    scratch: Quantity = "50Gi"
    """Of /tmp: Ray's session, spilled objects and logs."""
    terminationGracePeriodSeconds: int = Field(default=120, ge=0)
    """For what is under way."""
    volumes: list[Object] = []
    """Further volumes."""
    volumeMounts: list[Object] = []
    """Where they are mounted."""


class Placing(Values):
    """Where pods go."""

    nodeSelector: dict[str, str] = {}
    """Labels of the nodes."""
    tolerations: list[Object] = []
    """Taints that don't matter."""
    affinity: Object = {}
    """Kubernetes affinity."""


class HeadPlacing(Placing):
    """The head pod."""

    resources: Resources = Resources()
    """The gateway and the sandbox of `verify` may run here."""


class WorkerPlacing(Placing):
    """All worker pods, and each group's own."""

    resources: WorkerResources = WorkerResources()
    """What the recipe doesn't say."""
    gpuTolerations: list[Object] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    """For pods with GPUs, beside `tolerations`."""
    acceleratorLabel: str = "nvidia.com/gpu.product"
    """Node label that names the GPU."""
    acceleratorValues: dict[str, str] = {
        "H100": "NVIDIA-H100-80GB-HBM3",
        "H200": "NVIDIA-H200",
        "A100": "NVIDIA-A100-SXM4-80GB",
        "A100-80G": "NVIDIA-A100-SXM4-80GB",
        "L40S": "NVIDIA-L40S",
        "L4": "NVIDIA-L4",
    }
    """Ray's `accelerator_type` -> value of that label; a type without one must not stand in the recipe."""
    groups: dict[str, Placing] = {}
    """Source's, reward's or job group's name -> its own placing, beside the common one."""


class Gcs(Values):
    """Fault tolerance of Ray's control store: with it the service outlives its head pod."""

    redisAddress: str = ""
    """E.g. `redis:6379`; none leaves it off."""
    passwordSecretName: str = ""
    """A secret whose `password` is Redis's."""


class Prefetch(Values):
    """Models fetched before Ray starts."""

    enabled: bool = True
    """An init container of the head fetches all models into the models' volume."""


class ServiceAccount(Values):
    """Of the pods; the autoscaler's sidecar uses the operator's role for it."""

    create: bool = False
    """Whether to make one; the operator makes the autoscaler's where none is named."""
    name: str = ""
    """An existing one, or of the one that is made."""
    annotations: dict[str, str] = {}
    """E.g. for a cloud's workload identity."""


class Ingress(Values):
    """From outside, by an Ingress."""

    enabled: bool = False
    """Whether there is one."""
    className: str = ""
    """IngressClass."""
    host: str = ""
    """Host name; needed."""
    tlsSecretName: str = ""
    """A TLS secret; needed, since keys travel in headers, unless `allowHttp`."""
    allowHttp: bool = False
    """Where TLS ends in front of the cluster."""
    annotations: dict[str, str] = {}
    """E.g. time-outs: answers take minutes."""


class HttpRoute(Values):
    """From outside, by the Gateway API."""

    enabled: bool = False
    """Whether there is one."""
    gateway: str = ""
    """Name of the Gateway; needed."""
    gatewayNamespace: str = ""
    """Its namespace; none takes the release's."""
    hostnames: list[str] = []
    """Host names."""


class NetworkPolicy(Values):
    """Who reaches the pods; Ray's dashboard runs what it is sent, so that only the operator may."""

    enabled: bool = True
    """Whether there is one."""
    operatorNamespace: str = "kuberay-operator"
    """KubeRay's namespace."""
    monitoringNamespace: str = "monitoring"
    """Prometheus's namespace."""
    clients: list[Object] = [{"podSelector": {}}]
    """NetworkPolicy peers that may call the service; the namespace's own pods."""
    egress: list[Object] = []
    """Egress rules; none leaves egress open, otherwise DNS and the release's own pods are added."""


class Monitoring(Values):
    """For Prometheus and Grafana."""

    podMonitor: bool = False
    """PodMonitor of all Ray pods; needs Prometheus's operator."""
    rules: bool = False
    """PrometheusRule: what to be woken for."""
    dashboard: bool = False
    """ConfigMap with the Grafana dashboard."""
    labels: dict[str, str] = {}
    """By which Prometheus finds monitor and rules."""
    dashboardLabels: dict[str, str] = {"grafana_dashboard": "1"}
    """By which Grafana's sidecar finds the dashboard."""


class Advanced(Values):
    """What few set."""

    nameOverride: str = Field(default="", pattern=r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$", max_length=34)
    """Name of all objects, in place of the release's."""
    rayVersion: str = "2.60.0"
    """Ray in the image."""
    recipeFolder: str = Field(default="/opt/fusechat/recipes", pattern=r"^/.+[^/]$")
    """Where the recipe is mounted, and its relative paths start: the shipped recipes' folder, or one under /runs."""
    pods: Pods = Pods()
    """All pods of Ray."""
    security: PodSecurity = PodSecurity()
    """User and root file system."""
    head: HeadPlacing = HeadPlacing()
    """The head pod."""
    workers: WorkerPlacing = WorkerPlacing()
    """The worker pods."""
    gcs: Gcs = Gcs()
    """Fault tolerance of Ray's control store."""
    prefetch: Prefetch = Prefetch()
    """Models fetched before Ray starts."""
    serviceAccount: ServiceAccount = ServiceAccount()
    """Of the pods."""
    ingress: Ingress = Ingress()
    """From outside, by an Ingress."""
    httpRoute: HttpRoute = HttpRoute()
    """From outside, by the Gateway API."""
    networkPolicy: NetworkPolicy = NetworkPolicy()
    """Who reaches the pods."""
    monitoring: Monitoring = Monitoring()
    """For Prometheus and Grafana."""
    disruptionBudget: bool = True
    """Keeps node drains from the service's pods."""
    extraObjects: list[Object] = []
    """Further objects, each as it is."""


class Chart(Values):
    """All values."""

    mode: Literal["service", "jobs", "both"] = "service"
    """A RayService, RayJobs, or both, each with a Ray cluster of its own."""
    recipe: str = ""
    """The recipe file's text: `--set-file recipe=recipe.yaml`. Worker groups, GPUs and replicas follow from it."""
    image: Image = Image()
    """The image that the Dockerfile builds."""
    apiKeys: ApiKeys = ApiKeys()
    """Who may call the service."""
    hub: Hub = Hub()
    """How models with `hub:` are fetched."""
    storage: Storage = Storage()
    """What outlives pods."""
    gpus: Gpus = Gpus()
    """What the Kubernetes cluster has."""
    service: Service = Service()
    """The RayService."""
    jobs: Jobs = Jobs()
    """The RayJobs."""
    advanced: Advanced = Advanced()
    """What few set."""
