"""`fusechat serve`: runs the REST service on this machine, or on the recipe's cluster."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from fusechat.pipeline.cluster.needs import serving_needs
from fusechat.pipeline.cluster.placement import Need
from fusechat.pipeline.errors import RecipeError
from fusechat.pipeline.recipe import ImportedSource, Serve

from . import APP
from .deployments import ServeDeployments, Service

if TYPE_CHECKING:
    from fusechat.pipeline.run import Run


def serve_forever(run: Run) -> None:
    """Runs the REST service until SIGINT or SIGTERM.

    Raises:
        FusechatError: see pipeline/errors.py.
    """
    settings = run.recipe.serve
    if all(isinstance(source, ImportedSource) for source in run.recipe.sources):
        raise RecipeError("sources", None, "is required: they are what the service serves")
    check_access(settings)
    local = run.recipe.cluster.address is None
    if local:
        os.environ |= direct_ingress(settings)
    try:
        run.ray(settings)
        for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which sets its own handlers
            signal.signal(number, lambda *_: sys.exit(0))
        run.make_deployments = ServeDeployments
        run.deployments.start(service(run))
        run.deployments.wait(APP)
        address = f"http://{settings.host}:{settings.port}" if local else "the cluster's Serve address"
        run.progress.log(f"serve: ready at {address}")
        while True:
            signal.pause()
    finally:
        run.progress.log("serve: stopping")
        run.close()


def service(run: Run) -> Service:
    """The REST service as one application. All its models run at the same time."""
    from .app import build_app

    bundles = tuple(bundle for need in serving_needs(run.recipe) if need.name != "evaluate" for bundle in need.bundles)
    return Service(APP, Need(APP, bundles, "sources.*.placement or rewards.*.placement"), lambda: build_app(run), "/")


def check_access(settings: Serve) -> None:
    """Refuses a service that is open to the network: without keys, it must listen on a loopback address.

    Raises:
        RecipeError: there are no keys, the address is not loopback, and `serve.insecure` is not set.
    """
    if settings.keys is None and not settings.insecure and not is_loopback(settings.host):
        raise RecipeError(
            "serve.host", settings.host, "this address is open to the network: set serve.keys, or serve.insecure: true"
        )


def is_loopback(host: str) -> bool:
    """Whether the address can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def direct_ingress(settings: Serve) -> dict[str, str]:
    """Environment variables with which Serve sends requests directly to the gateway, without a proxy.

    Raises:
        RecipeError: the port can't be used.
    """
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            raise RecipeError("serve.port", address, f"can't be listened on: {error.strerror}") from error
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",  # each request is logged at once
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(settings.port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(settings.port + settings.replicas),  # the end is exclusive
        "RAY_SERVE_PORT_QUARANTINE_S": "0",  # a restarted gateway uses the same port
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }
