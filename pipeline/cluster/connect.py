"""The connection to a Ray cluster, started on this machine or reached at an address."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

from ..errors import FusechatError, UserError, one_line
from ..machine.hardware import machine_memory, num_cores
from ..machine.process_priority import lower_priority
from ..recipe import Cluster, Serve
from .placement import Resources

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # on the terminal; failures reach fusechat as exceptions
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # a raylet's paragraph on each dead worker adds nothing
    "RAY_worker_niceness": "0",  # with the default of 15, any other process can starve the engines
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # the default of 0.1 s takes 1/30 of a core from the engines
    "RAY_worker_register_timeout_seconds": "300",  # a busy or slow machine takes longer than the default of 60 s
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Environment variables that keep Ray and vLLM quiet, and a few limits of Ray."""
MAX_START_ATTEMPTS = 3
"""Attempts to start Ray on this machine."""


class InitOptions(TypedDict, total=False):
    """The arguments of `ray.init` that fusechat sets."""

    log_to_driver: bool
    logging_level: str
    num_cpus: float
    _metrics_export_port: int


class RayInit(Protocol):
    """The type of `ray.init`."""

    def __call__(self, *, address: str, include_dashboard: bool, **options: Unpack[InitOptions]) -> object:
        """Starts Ray or connects to it."""


def set_quiet_env() -> None:
    """Keeps Ray's and vLLM's messages off the terminal. Some variables work only if set before `ray` is imported."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)


@contextmanager
def connected(config: Cluster, settings: Serve | None = None) -> Iterator[None]:
    """Starts Ray on this machine, or connects to `config.address`. What was started here is stopped at the end.

    Args:
        settings: how HTTP requests reach the deployments. None starts no HTTP server; batch work needs only handles.

    Raises:
        UserError: no cluster answers at the address.
    """
    set_quiet_env()
    import logging

    import ray
    from ray import serve

    for name in ("ray.serve", "ray.data", "ray.llm", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options: InitOptions = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if config.address is None:
            if settings is not None and settings.metrics_port is not None:
                options["_metrics_export_port"] = settings.metrics_port
            options["num_cpus"] = config.num_cpus or num_cores()
            with _hide_log_level_message():
                _start(ray.init, **options)
        else:
            with _hide_log_level_message():
                ray.init(address=config.address, **options)
    except ConnectionError as error:
        raise UserError(f"cluster.address: no Ray cluster answers at {config.address}: {error}") from error
    try:
        logging_config = {"log_level": "WARNING"}
        if settings is None:
            serve.start(proxy_location="Disabled", logging_config=logging_config)
        else:
            # Callers use the gateway's own port. Ray's proxy can't be disabled then, so it gets any free port.
            http = {"host": settings.host, "port": free_port()}
            serve.start(proxy_location="HeadOnly", http_options=http, logging_config=logging_config)
        if config.address is None and not _has_gpus():
            lower_priority()
        yield
    finally:
        ray.shutdown()  # also stops a cluster that was started here, with its deployments


def _start(init: RayInit, **options: Unpack[InitOptions]) -> None:
    """Starts Ray on this machine. Retries if a busy machine takes longer than Ray's own limit of 30 s.

    Raises:
        FusechatError: it does not start.
    """
    for attempt in range(1, MAX_START_ATTEMPTS + 1):
        try:
            # Without "local", Ray would join any cluster that it finds on this machine, and refuse `num_cpus`.
            init(address="local", include_dashboard=False, **options)
            return
        except ConnectionError:
            raise
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            if attempt == MAX_START_ATTEMPTS:
                raise FusechatError(f"Ray did not start in {MAX_START_ATTEMPTS} tries: {one_line(error)}") from error


@contextmanager
def _hide_log_level_message() -> Iterator[None]:
    """Hides the message of Ray's compiled code that it uses RAY_BACKEND_LOG_LEVEL.

    Everything else that is written to standard error meanwhile is written at the end.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            os.write(2, b"".join(line for line in captured if b"Set ray log level from environment" not in line))


def local_nodes(config: Cluster) -> list[Resources] | None:
    """Resources of this machine as a cluster of one node, without starting Ray.

    None if the machine has GPUs, because only Ray knows their number and type.
    """
    if _has_gpus():
        return None
    # Ray reserves about 30% of the memory for its object store.
    memory = 0.7 * machine_memory()
    return [{"CPU": float(config.num_cpus or num_cores()), "memory": memory}]


def free_port() -> int:
    """A port of this machine that no process listens on."""
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
