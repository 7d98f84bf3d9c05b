"""`fusechat serve`: the REST service on this machine, or on the cluster that the recipe names."""

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
from fusechat.pipeline.recipe import Serve

from . import APP
from .deployments import ServeDeployments, Service

if TYPE_CHECKING:
    from fusechat.pipeline.run import Run


def serve_forever(run: Run) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises:
        FusechatError: see errors.py.
    """
    settings = run.recipe.serve
    check_open(settings)
    local = run.recipe.cluster.address is None
    if local:
        os.environ |= direct_ingress(settings)
    try:
        run.ray(settings)
        for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which sets handlers of its own
            signal.signal(number, lambda *_: sys.exit(0))
        run.make_deployments = ServeDeployments
        run.deployments.start(service(run))
        run.deployments.wait(APP)
        where = f"http://{settings.host}:{settings.port}" if local else "the cluster's Serve address"
        run.progress.log(f"serve: ready at {where}")
        while True:
            signal.pause()
    finally:
        run.progress.log("serve: stopping")
        run.close()


def service(run: Run) -> Service:
    """The whole service as one of the fleet: everything is up at the same time."""
    from .app import build_app

    bundles = tuple(bundle for need in serving_needs(run.recipe) if need.name != "evaluate" for bundle in need.bundles)
    return Service(APP, Need(APP, bundles, "sources.*.placement or rewards.*.placement"), lambda: build_app(run), "/")


def check_open(settings: Serve) -> None:
    """Refuses to let anybody in who can reach this machine.

    Raises:
        RecipeError: there are no keys, and the address is another than loopback.
    """
    if settings.keys is None and not settings.insecure and not is_loopback(settings.host):
        raise RecipeError(
            "serve.host", settings.host, "anybody may call there: give serve.keys, or set serve.insecure: true"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def direct_ingress(settings: Serve) -> dict[str, str]:
    """Environment under which the gateway listens by itself: no proxy stands between it and its callers.

    Raises:
        RecipeError: the port is taken.
    """
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise RecipeError("serve.port", where, f"can't be listened on: {error.strerror}") from error
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",  # a request's line is there when the request is over
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(settings.port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(settings.port + settings.replicas),  # the first that is not used
        "RAY_SERVE_PORT_QUARANTINE_S": "0",  # a gateway that is started again listens where the last one did
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }
