"""The chart's values under `advanced`, which few users set."""

from __future__ import annotations

from pydantic import Field
from values_base import Object, Quantity, Values


class Resources(Values):
    """Both the requests and the limits, so that Ray and Kubernetes count the same."""

    cpu: Quantity = "4"
    """CPU cores."""
    memory: Quantity = "16Gi"
    """Memory."""


class WorkerResources(Values):
    """Resources of a worker pod. CPUs and GPUs follow from the recipe."""

    memoryPerGpu: str = Field(default="64Gi", pattern=r"^[1-9][0-9]*Gi$")
    """Host memory per GPU of a pod."""
    memoryWithoutGpu: str = Field(default="8Gi", pattern=r"^[1-9][0-9]*Gi$")
    """Host memory of a pod without GPUs."""
    extraCpus: int = Field(default=1, ge=1)
    """CPU cores in addition to the recipe's placements, for Ray's own processes and the tokenizer."""


class PodSecurity(Values):
    """Pod security in addition to the fixed settings: not root, no added capabilities, no privilege escalation, seccomp
    RuntimeDefault."""

    uid: int = Field(default=10001, ge=1)
    """User id, and group id of files."""
    readOnlyRootFilesystem: bool = True
    """Allow writes only to the mounted volumes."""


class Pods(Values):
    """Settings of all Ray pods."""

    annotations: dict[str, str] = {}
    """Annotations of the pods. A change starts a new cluster."""
    labels: dict[str, str] = {}
    """Labels of the pods. A change starts a new cluster."""
    env: list[Object] = []
    """Kubernetes `env` entries."""
    envFrom: list[Object] = []
    """Kubernetes `envFrom` entries, e.g. a secret with an endpoint's key."""
    runtimeClassName: str = ""
    """Runtime class, e.g. `nvidia`."""
    priorityClassName: str = ""
    """Priority class of all pods."""
    sharedMemory: str = Field(default="16Gi", pattern=r"^[1-9][0-9]*Gi$")
    """Size of /dev/shm, which counts as the pod's memory. Ray's object store takes three quarters; NCCL uses it too."""
    scratch: Quantity = "50Gi"
    """Size of /tmp, for Ray's session, spilled objects and logs."""
    terminationGracePeriodSeconds: int = Field(default=120, ge=0)
    """Seconds that requests and work in progress get to finish."""
    volumes: list[Object] = []
    """Additional volumes."""
    volumeMounts: list[Object] = []
    """Mounts of the additional volumes."""


class Placing(Values):
    """Which nodes pods run on."""

    nodeSelector: dict[str, str] = {}
    """Labels that the nodes must have."""
    tolerations: list[Object] = []
    """Taints that the pods tolerate."""
    affinity: Object = {}
    """Kubernetes affinity."""


class HeadPlacing(Placing):
    """Settings of the head pod."""

    resources: Resources = Resources()
    """Resources of the head pod. The gateway and the sandbox of `verify` may run there."""


class WorkerPlacing(Placing):
    """Settings of all worker pods, and of single groups."""

    resources: WorkerResources = WorkerResources()
    """Resources that the recipe does not define."""
    gpuTolerations: list[Object] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    """Tolerations of pods with GPUs, in addition to `tolerations`."""
    acceleratorLabel: str = "nvidia.com/gpu.product"
    """Node label with the name of the GPU."""
    acceleratorValues: dict[str, str] = {
        "H100": "NVIDIA-H100-80GB-HBM3",
        "H200": "NVIDIA-H200",
        "A100": "NVIDIA-A100-SXM4-80GB",
        "A100-80G": "NVIDIA-A100-SXM4-80GB",
        "L40S": "NVIDIA-L40S",
        "L4": "NVIDIA-L4",
    }
    """Ray's `accelerator_type` -> value of that label. The recipe may use only these types."""
    groups: dict[str, Placing] = {}
    """Name of a source's, reward's or job's group -> its placement, in addition to the common one."""


class Gcs(Values):
    """Fault tolerance of Ray's control store (GCS). With it, the service survives the loss of its head pod."""

    redisAddress: str = ""
    """Address of Redis, e.g. `redis:6379`. Without it, fault tolerance is off."""
    passwordSecretName: str = ""
    """Name of a secret whose `password` is the Redis password."""


class Prefetch(Values):
    """Download of models before Ray starts."""

    enabled: bool = True
    """Download all models to the models' volume, in an init container of the head pod."""


class ServiceAccount(Values):
    """Service account of the pods. The autoscaler's sidecar uses it with the role that the operator creates."""

    create: bool = False
    """Create it. If no service account is named, the operator creates one for the autoscaler."""
    name: str = ""
    """Name of an existing service account, or of the created one."""
    annotations: dict[str, str] = {}
    """Annotations, e.g. for a cloud's workload identity."""


class Ingress(Values):
    """Access from outside the cluster through an Ingress."""

    enabled: bool = False
    """Create it."""
    className: str = ""
    """Ingress class."""
    host: str = ""
    """Host name. Required."""
    tlsSecretName: str = ""
    """Name of a TLS secret. Required unless `allowHttp` is true, because keys are sent in headers."""
    allowHttp: bool = False
    """Allow HTTP, for clusters where TLS is terminated in front of the cluster."""
    annotations: dict[str, str] = {}
    """Annotations, e.g. for time-outs: answers take minutes."""


class HttpRoute(Values):
    """Access from outside the cluster through the Gateway API."""

    enabled: bool = False
    """Create it."""
    gateway: str = ""
    """Name of the Gateway. Required."""
    gatewayNamespace: str = ""
    """Namespace of the Gateway. Default: the release's namespace."""
    hostnames: list[str] = []
    """Host names."""


class NetworkPolicy(Values):
    """Who can reach the pods. Only the operator reaches Ray's dashboard, because the dashboard runs any code sent to
    it."""

    enabled: bool = True
    """Create it."""
    operatorNamespace: str = "kuberay-operator"
    """Namespace of the KubeRay operator."""
    monitoringNamespace: str = "monitoring"
    """Namespace of Prometheus."""
    clients: list[Object] = [{"podSelector": {}}]
    """NetworkPolicy peers that may call the service. Default: the pods of the namespace."""
    egress: list[Object] = []
    """Egress rules. Without any, egress is open. Otherwise, DNS and the release's own pods are added."""


class Monitoring(Values):
    """Objects for Prometheus and Grafana."""

    podMonitor: bool = False
    """Create a PodMonitor for all Ray pods. It needs the Prometheus operator."""
    rules: bool = False
    """Create a PrometheusRule with alerts."""
    dashboard: bool = False
    """Create a ConfigMap with the Grafana dashboard."""
    labels: dict[str, str] = {}
    """Labels of monitor and rules, by which Prometheus finds them."""
    dashboardLabels: dict[str, str] = {"grafana_dashboard": "1"}
    """Labels of the dashboard, by which Grafana's sidecar finds it."""


class Advanced(Values):
    """Settings that few users change."""

    nameOverride: str = Field(default="", pattern=r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$", max_length=34)
    """Name of all objects. Default: the release's name."""
    rayVersion: str = "2.60.0"
    """Version of Ray in the image."""
    recipeFolder: str = Field(default="/opt/fusechat/recipes", pattern=r"^/.+[^/]$")
    """Folder where the recipe is mounted and where its relative paths start: the shipped recipes' folder, or a folder
    under /runs."""
    pods: Pods = Pods()
    """Settings of all Ray pods."""
    security: PodSecurity = PodSecurity()
    """User and root file system of the pods."""
    head: HeadPlacing = HeadPlacing()
    """Settings of the head pod."""
    workers: WorkerPlacing = WorkerPlacing()
    """Settings of the worker pods."""
    gcs: Gcs = Gcs()
    """Fault tolerance of Ray's control store."""
    prefetch: Prefetch = Prefetch()
    """Download of models before Ray starts."""
    serviceAccount: ServiceAccount = ServiceAccount()
    """Service account of the pods."""
    ingress: Ingress = Ingress()
    """Access from outside the cluster through an Ingress."""
    httpRoute: HttpRoute = HttpRoute()
    """Access from outside the cluster through the Gateway API."""
    networkPolicy: NetworkPolicy = NetworkPolicy()
    """Who can reach the pods."""
    monitoring: Monitoring = Monitoring()
    """Objects for Prometheus and Grafana."""
    disruptionBudget: bool = True
    """Protect the service's pods from node drains."""
    extraObjects: list[Object] = []
    """Additional Kubernetes objects, used unchanged."""
