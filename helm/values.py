"""The chart's values. values.yaml, values.schema.json and the README's table are generated from this file and
advanced_values.py."""

from __future__ import annotations

from typing import Literal

from advanced_values import Advanced
from pydantic import Field
from values_base import Quantity, Values


class Image(Values):
    """The image that the Dockerfile builds."""

    repository: str = Field(default="fusechat", min_length=1)
    """Registry and name of the image."""
    tag: str = "0.1.0"
    """Tag. Ignored if there is a digest."""
    digest: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """`sha256:...`. Identifies the image even if the tag moves."""
    pullPolicy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes pull the image."""
    pullSecrets: list[str] = []
    """Names of secrets with registry credentials."""


class ApiKeys(Values):
    """Who may call the service."""

    secretName: str = ""
    """Name of a secret whose `keys.yaml` is a key file (`fusechat keys add keys.yaml NAME --role ROLE`)."""
    insecure: bool = False
    """Allow calls without keys from everybody who can reach the service. No secret is needed then."""


class Hub(Values):
    """How models with `hub:` are downloaded."""

    access: Literal["token", "anonymous", "offline"] = "token"
    """How to access the hub. `offline` downloads nothing: the models' volume must contain the models."""
    tokenSecretName: str = ""
    """Name of a secret whose `token` is the hub's token. Required with `access: token` if the recipe has hub models."""


class Claim(Values):
    """A volume."""

    existingClaim: str = ""
    """Name of an existing claim. Without one, the chart creates a claim, which is kept when the release is
    uninstalled."""
    size: Quantity = "100Gi"
    """Size of the created claim."""
    storageClass: str = ""
    """Storage class of the created claim. Default: the cluster's default."""
    accessMode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """Access mode of the created claim. Use `ReadWriteOnce` only on a cluster of one node."""


class ModelsClaim(Claim):
    """The models' volume: models are downloaded to it once and read by every pod."""

    size: Quantity = "1Ti"
    """Size of the created claim. It must hold all weights of the recipe in bfloat16, at 2 bytes per parameter."""


class Storage(Values):
    """Persistent volumes."""

    runs: Claim = Claim()
    """Volume of the run directory, mounted at /runs. A relative `run_dir` of the recipe is there."""
    models: ModelsClaim = ModelsClaim()
    """Volume of the model cache, mounted at /models."""


class Gpus(Values):
    """GPUs of the Kubernetes cluster."""

    perNode: int = Field(default=8, ge=1)
    """GPUs of the largest node. All TP x PP GPUs of a source must be on one node."""
    total: int = Field(default=0, ge=0)
    """Number of GPUs that the release may use, to check the recipe and upgrades. 0 turns the checks off."""
    resource: str = "nvidia.com/gpu"
    """Resource name of a GPU in the device plugin."""


class Upgrade(Values):
    """How a change of the pods affects the running service."""

    type: Literal["NewCluster", "None", "NewClusterWithIncrementalUpgrade"] = "NewCluster"
    """`NewCluster` starts a second Ray cluster, then moves the traffic. `NewClusterWithIncrementalUpgrade` moves it in
    steps. `None` does not change the running cluster."""
    gatewayClassName: str = ""
    """For NewClusterWithIncrementalUpgrade: the Gateway API class that shifts the traffic."""
    maxSurgePercent: int = Field(default=100, ge=1, le=100)
    """For NewClusterWithIncrementalUpgrade: percentage of the second cluster that is up at once."""
    stepSizePercent: int = Field(default=10, ge=1, le=100)
    """For NewClusterWithIncrementalUpgrade: percentage of the traffic that each step moves."""
    intervalSeconds: int = Field(default=60, ge=1)
    """For NewClusterWithIncrementalUpgrade: seconds between two steps."""


class Service(Values):
    """The RayService."""

    upgrade: Upgrade = Upgrade()
    """How a change of the pods affects the running service."""
    autoscaling: bool = True
    """Let Ray's autoscaler (v2) start and stop worker pods between `min_replicas` and `max_replicas` of each
    placement."""
    idleTimeoutSeconds: int = Field(default=600, ge=10)
    """Seconds after which an idle worker pod is stopped."""
    unhealthySeconds: int = Field(default=1800, ge=60)
    """Seconds that a new cluster may take until it serves. Downloading 70B weights takes most of them."""


class Job(Values):
    """A RayJob."""

    enabled: bool = True
    """Create it."""
    commands: list[Literal["run", "prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report"]] = Field(
        default=["run"], min_length=1
    )
    """Commands of `fusechat`, run one after the other. A retry skips finished work."""
    activeDeadlineSeconds: int = Field(default=604800, ge=60)
    """Time limit of the job, in seconds."""
    backoffLimit: int = Field(default=3, ge=0)
    """Number of retries, each on a new cluster."""
    ttlSecondsAfterFinished: int = Field(default=3600, ge=1)
    """Seconds after which a finished job's cluster is removed."""


class TrainingJob(Job):
    """A job for training only, e.g. on other nodes than sampling."""

    enabled: bool = False
    """Create it. Wait until a pipeline job that ends with `select` is done: both write the same run directory."""
    commands: list[Literal["run", "prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report"]] = Field(
        default=["sft", "dpo", "evaluate", "report"], min_length=1
    )
    """Commands of `fusechat`, run one after the other."""


class Jobs(Values):
    """The RayJobs."""

    pipeline: Job = Job()
    """The job that runs the pipeline."""
    training: TrainingJob = TrainingJob()
    """The job that runs only the training."""
    workers: int = Field(default=0, ge=0)
    """Number of worker pods of a job's cluster. 0 creates as many as the recipe needs; more allow sources to scale up
    to `max_replicas`."""
    kueueQueue: str = ""
    """Name of a Kueue local queue. Jobs are then created suspended, and Kueue starts them."""


class Chart(Values):
    """All values."""

    mode: Literal["service", "jobs", "both"] = "service"
    """What to install: a RayService (`service`), RayJobs (`jobs`), or both. Each has its own Ray cluster."""
    recipe: str = ""
    """Content of the recipe file: `--set-file recipe=recipe.yaml`. It defines worker groups, GPUs and replicas."""
    image: Image = Image()
    """The image that the Dockerfile builds."""
    apiKeys: ApiKeys = ApiKeys()
    """Who may call the service."""
    hub: Hub = Hub()
    """How models with `hub:` are downloaded."""
    storage: Storage = Storage()
    """Persistent volumes."""
    gpus: Gpus = Gpus()
    """GPUs of the Kubernetes cluster."""
    service: Service = Service()
    """The RayService."""
    jobs: Jobs = Jobs()
    """The RayJobs."""
    advanced: Advanced = Advanced()
    """Settings that few users change."""
