"""Recipe sections for the Ray cluster and the REST service."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from .fields import Section


class Cluster(Section):
    """The Ray cluster that the run uses."""

    address: str | None = None
    """Address of a running Ray cluster, or `auto` to find one. Without it, Ray is started on this machine."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs of the Ray that is started on this machine. Default: all of the machine's cores."""


class Serve(Section):
    """The REST service (`fusechat serve`, docs/service.md)."""

    host: str = "127.0.0.1"
    """Address that the service listens on."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port that the service listens on."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port where Ray exports this machine's Prometheus metrics. Default: any free port."""
    keys: str | None = None
    """API key file (`fusechat keys add`), relative to the recipe's folder. Without one, anybody may call, and only
    loopback is served unless `insecure` is true."""
    insecure: bool = False
    """Allow addresses other than loopback without API keys."""
    replicas: int = Field(default=1, ge=1)
    """Replicas of the gateway. Each enforces its share of the keys' limits."""
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Maximum size of a request body. Larger requests are refused."""
    max_in_flight: int = Field(default=256, ge=1)
    """Maximum number of concurrent requests. Further requests get 503."""
    max_queued: int = Field(default=128, ge=1)
    """Maximum number of requests that wait for one model. Further requests get 503."""
    timeout_s: float = Field(default=600, gt=0)
    """Seconds until a request without an answer fails with 504."""
    cold: Literal["wait", "refuse"] = "wait"
    """What a request to a model without a replica does: `wait` for one, or fail with 503 (`refuse`). A replica is
    started in both cases."""
    log_prompts: bool = False
    """Write the content of requests to the log."""
