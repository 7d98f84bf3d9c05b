"""The cluster, and the REST service."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from .fields import Section


class Cluster(Section):
    """Where it runs."""

    address: str | None = None
    """A running Ray cluster's address (`auto` finds one); none starts Ray on this machine."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs of the Ray started here; none takes the machine's cores."""


class Serve(Section):
    """The REST service (`fusechat serve`)."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where Ray exports the Prometheus metrics of this machine; any free port where none is given."""
    keys: str | None = None
    """A key file (`fusechat keys add`); relative to the recipe's folder. Without one anybody may call."""
    insecure: bool = False
    """Allows another address than loopback without keys."""
    replicas: int = Field(default=1, ge=1)
    """Of the gateway; each has its share of the keys' limits."""
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Larger requests are refused."""
    max_in_flight: int = Field(default=256, ge=1)
    """Requests at once; more are refused with 503."""
    max_queued: int = Field(default=128, ge=1)
    """Requests that may wait for a model; more are refused with 503."""
    timeout_s: float = Field(default=600, gt=0)
    """Seconds until a request that has no answer is given up with 504."""
    cold: Literal["wait", "refuse"] = "wait"
    """What a call to a model without a replica does while one is started: wait for it, or 503."""
    log_prompts: bool = False
    """Whether the log holds what callers send."""
