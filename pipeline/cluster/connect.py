"""The Ray cluster that a run works on, and whether the recipe fits on it."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import FusechatError, UserError, one_line
from ..machine.hardware import machine_memory, num_cores
from ..machine.process_priority import lower_priority
from ..recipe import Cluster, Serve
from .placement import Resources

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # of the terminal; what fails for us comes back as an exception
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # and a raylet's paragraph on each worker that died says no more
    "RAY_worker_niceness": "0",  # the default of 15 lets any other process starve the engines
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # ten times a second takes a thirtieth of a core from the engines
    "RAY_worker_register_timeout_seconds": "300",  # a busy or slow machine takes longer than the default of 60 s
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


STARTS = 3
"""Tries to start Ray on this machine."""


def set_quiet_env() -> None:
    """Keeps Ray's and vLLM's own messages off the terminal; some of it holds only before `ray` is imported."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)


@contextmanager
def connected(config: Cluster, settings: Serve | None = None) -> Iterator[None]:
    """Ray, started here or at `config.address`; what was started here is stopped at the end.

    Args:
        settings: how HTTP reaches the deployments; none starts no HTTP server: batch work takes handles.

    Raises:
        UserError: no cluster answers at the address.
    """
    set_quiet_env()
    import logging

    import ray
    from ray import serve

    for name in ("ray.serve", "ray.data", "ray.llm", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if config.address is None:
            if settings is not None and settings.metrics_port is not None:
                options["_metrics_export_port"] = settings.metrics_port
            # Without `local` Ray would join whatever cluster of this machine it hears of, and refuse `num_cpus`.
            with _without_rays_log_level():
                _start(ray.init, num_cpus=config.num_cpus or num_cores(), **options)
        else:
            with _without_rays_log_level():
                ray.init(address=config.address, **options)
    except ConnectionError as error:
        raise UserError(f"cluster.address: no Ray cluster answers at {config.address}: {error}") from error
    try:
        where: dict[str, Any] = {"proxy_location": "Disabled"}
        if settings is not None:
            # Callers reach the gateway's own port; Ray's proxy, which can't be left out, gets any free one.
            where = {"proxy_location": "HeadOnly", "http_options": {"host": settings.host, "port": free_port()}}
        serve.start(**where, logging_config={"log_level": "WARNING"})
        if config.address is None and not _has_gpus():
            lower_priority()
        yield
    finally:
        ray.shutdown()  # a cluster that was started here ends with it, deployments and all


def _start(init: Callable[..., object], **options: Any) -> None:
    """Starts Ray on this machine; again where a busy one took longer than the 30 s that Ray gives itself.

    Raises:
        FusechatError: it does not start.
    """
    for attempt in range(1, STARTS + 1):
        try:
            init(address="local", include_dashboard=False, **options)
            return
        except ConnectionError:
            raise
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            if attempt == STARTS:
                raise FusechatError(f"Ray did not start in {STARTS} tries: {one_line(error)}") from error


@contextmanager
def _without_rays_log_level() -> Iterator[None]:
    """Keeps a line of Ray's compiled code off the terminal, which says that it took RAY_BACKEND_LOG_LEVEL; the rest of
    what is written to standard error meanwhile comes afterwards."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(line for line in held if b"Set ray log level from environment" not in line))


def local_nodes(config: Cluster) -> list[Resources] | None:
    """What this machine would offer as a cluster of one node, without starting Ray; none where that takes Ray to
    know: it has GPUs, whose kind and number Ray finds out."""
    if _has_gpus():
        return None
    # Ray keeps about three tenths of the memory for its object store.
    memory = 0.7 * machine_memory()
    return [{"CPU": float(config.num_cpus or num_cores()), "memory": memory}]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _has_gpus() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def nodes() -> list[Resources]:
    """Resources of each live node of the connected cluster."""
    import ray

    return [dict(n["Resources"]) for n in ray.nodes() if n["Alive"]]
