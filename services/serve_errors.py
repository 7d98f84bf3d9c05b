"""Errors of calls to Serve deployments, translated into HTTP errors for the caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from fusechat.pipeline.errors import EngineDiedError

from .error_responses import unavailable

RESTART_S = 30.0
"""`Retry-After` in seconds for a model that is starting."""
QUEUE_FULL_S = 2.0
"""`Retry-After` in seconds for a model whose queue is full."""


@contextmanager
def translate_serve_errors(model: str) -> Iterator[None]:
    """Turns errors of a call to the model's deployment into HTTP errors.

    Raises:
        RefusedError: 503 if the queue is full, or if the replica or its engine died.
    """
    try:
        yield
    except BackPressureError as error:
        raise unavailable(model, "its queue is full", QUEUE_FULL_S) from error
    except (EngineDiedError, RayActorError, DeploymentUnavailableError, ReplicaUnavailableError) as error:
        raise unavailable(model, "it stopped and is being restarted", RESTART_S) from error
    except RayTaskError as error:
        if isinstance(error.cause, EngineDiedError):
            raise unavailable(model, "its engine stopped and is being restarted", RESTART_S) from error
        raise
