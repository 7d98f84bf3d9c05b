"""Jobs on a Ray cluster, through its jobs API: submits them after checks, follows them, and stops them."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlsplit

from ..errors import FusechatError, RunDirectoryError, UserError, one_line
from ..recipe import Recipe
from .job_package import as_metadata, pack
from .placement import Resources
from .ray_internals import VERBOSE_LOGGERS

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

REQUEST_TIMEOUT_S = 10.0
"""Seconds in which the cluster must answer a request."""
RECONNECT_S = 600.0
"""Seconds for which a lost connection is retried. The job continues meanwhile."""
TOKEN_HINT = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH)"


class NodeState(TypedDict):
    """A node, as Ray's state API describes it."""

    state: str
    resources_total: dict[str, float]


class Jobs:
    """The jobs of one cluster.

    Args:
        address: address of the cluster's dashboard, e.g. `http://head:8265`.

    Raises:
        UserError: no Ray dashboard answers there within 10 s, it requires a token, or its version differs.
    """

    def __init__(self, address: str) -> None:
        if not re.match(r"https?://[^/]", address):
            raise UserError(f"--address: must be the dashboard's address, http://HOST:8265 (given: {address!r})")
        self._address = address.rstrip("/")
        _use_local_token(self._address)
        self._check_version()
        self._client: JobSubmissionClient = self._connect()

    def _connect(self) -> JobSubmissionClient:
        from ray.job_submission import JobSubmissionClient

        for name in VERBOSE_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            return JobSubmissionClient(self._address)
        except (RuntimeError, ConnectionError) as error:
            raise UserError(f"--address: {self._address}: {one_line(error)}") from error

    def _get(self, route: str) -> Any:
        """The JSON of a route of the dashboard.

        Raises:
            UserError: it does not answer, requires a token, or is not Ray's.
        """
        import httpx
        from ray.exceptions import AuthenticationError

        from .ray_internals import get_auth_headers_if_auth_enabled

        try:
            headers = get_auth_headers_if_auth_enabled({})
            answer = httpx.get(self._address + route, headers=headers, timeout=REQUEST_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UserError(f"--address: nothing answers at {self._address}: {one_line(error)}") from error
        except AuthenticationError as error:
            raise UserError(f"--address: {self._address}: {one_line(error)}") from error
        if answer.status_code in (401, 403):
            problem = "refuses the token" if headers else "asks for a token"
            raise UserError(f"--address: the cluster at {self._address} {problem}: {TOKEN_HINT}")
        try:
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPStatusError, ValueError) as error:
            raise self._not_a_dashboard() from error

    def _not_a_dashboard(self) -> UserError:
        return UserError(f"--address: the server at {self._address} is not a Ray dashboard")

    def _check_version(self) -> None:
        import ray

        answer = self._get("/api/version")
        version = answer.get("ray_version") if isinstance(answer, dict) else None
        if version is None:
            raise self._not_a_dashboard()
        if version != ray.__version__:
            raise UserError(
                f"--address: the cluster at {self._address} runs Ray {version}, this is Ray {ray.__version__}; "
                "they must be the same"
            )

    def nodes(self) -> list[Resources]:
        """Resources of each live node.

        Raises:
            UserError: the cluster does not answer.
        """
        nodes: list[NodeState] = self._get("/api/v0/nodes?detail=1&limit=10000")["data"]["result"]["result"]
        return [n["resources_total"] for n in nodes if n["state"] == "ALIVE"]

    def submit(
        self,
        path: Path,
        recipe: Recipe,
        command: str,
        changes: Sequence[str],
        *,
        grows: bool = False,
    ) -> str:
        """Starts a job; returns its id.

        Args:
            path: the recipe's file.
            command: command of fusechat, e.g. `run`.
            changes: changes of the recipe, `section.key=value` each.
            grows: whether the cluster autoscales. Its present resources are then not checked.

        Raises:
            CapacityError: the recipe can't be placed.
            RunDirectoryError: another job uses its run directory.
            FusechatError: see errors.py.
        """
        from .needs import check_capacity

        if not grows and command != "prompts":
            check_capacity(recipe, self.nodes())
        metadata = as_metadata(recipe)
        for job in self.all():
            run_dir = (job.metadata or {}).get("fusechat_run_dir")
            if run_dir == metadata["fusechat_run_dir"] and not job.status.is_terminal():
                raise RunDirectoryError(f"{recipe.run_dir}: the job {job.submission_id} works on it; stop it, or wait")
        words = ["python", "-m", "fusechat.pipeline.cli", command, "recipe.yaml"]
        for change in (*changes, "cluster.address=auto"):
            words += ["--set", change]
        with tempfile.TemporaryDirectory(prefix="fusechat-job-") as folder:
            pack(path, recipe, Path(folder))
            try:
                submission_id: str = self._client.submit_job(
                    entrypoint=shlex.join(words),
                    submission_id=f"fusechat-{recipe.name}-{uuid.uuid4().hex[:8]}",
                    runtime_env={"working_dir": folder, "env_vars": {"PYTHONUNBUFFERED": "1"}},
                    metadata=metadata,
                )
            except (RuntimeError, ConnectionError, ValueError) as error:
                raise FusechatError(f"{self._address}: the job can't be submitted: {one_line(error)}") from error
        return submission_id

    def all(self) -> list[JobDetails]:
        """The cluster's submitted jobs, oldest first.

        Raises:
            FusechatError: the cluster does not answer.
        """
        try:
            jobs = [j for j in self._client.list_jobs() if j.submission_id]
        except (RuntimeError, ConnectionError) as error:
            raise FusechatError(f"{self._address}: jobs can't be listed: {one_line(error)}") from error
        return sorted(jobs, key=lambda job: job.start_time or 0)

    def get(self, job: str) -> JobDetails:
        """One job.

        Raises:
            UserError: no job has this id.
        """
        jobs = {str(j.submission_id): j for j in self.all()}
        if job not in jobs:
            raise UserError(f"{job}: no such job; there are {', '.join(jobs) or 'none'}")
        return jobs[job]

    def follow(self, job: str, write: Callable[[str], None], report: Callable[[str], None]) -> int:
        """Copies a job's log until the job ends; returns its exit code.

        Args:
            write: receives each part of the log once, even if the connection is lost in between.
            report: receives a message when the connection is lost, and the message of a failed job.

        Raises:
            UserError: there is no such job.
            FusechatError: the connection was lost for ten minutes. The job continues.
        """
        self.get(job)
        written, lost_at, reported = 0, 0.0, False
        while True:
            try:
                written = asyncio.run(self._tail(job, written, write))
                details = self._client.get_job_info(job)
                if details.status.is_terminal():
                    if details.status == "SUCCEEDED":
                        return 0
                    if details.message:
                        report(f"{job}: {str(details.status).lower()}: {one_line(details.message)}")
                    return int(details.driver_exit_code or 1)
                lost_at = 0.0
            except (OSError, RuntimeError) as error:
                if "does not exist" in str(error):
                    raise FusechatError(f"{job}: the cluster no longer has this job") from error
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > RECONNECT_S:
                    hint = f"fusechat logs {job} --address {self._address}"
                    raise FusechatError(
                        f"{self._address}: the connection is lost ({one_line(error)}); the job goes on: {hint}"
                    ) from error
                if not reported:
                    report(f"{job}: the connection is lost, trying again; the job goes on")
                reported = True
            else:
                reported = False
            time.sleep(1)

    async def _tail(self, job: str, written: int, write: Callable[[str], None]) -> int:
        """Writes the log from character `written` on, until the connection or the log ends; returns the position."""
        import aiohttp

        seen = 0
        # A lost connection is not an error here: `written` stays correct, and the caller checks the job's status.
        with suppress(aiohttp.ClientError, OSError, RuntimeError):
            async for piece in self._client.tail_job_logs(job):
                new = piece[max(0, written - seen) :]
                seen += len(piece)
                if new:
                    write(new)
                written = max(written, seen)
        return written

    def stop(self, job: str, wait_s: float = 30) -> str:
        """Stops a job; returns its final status. What is durable is kept.

        Raises:
            FusechatError: it is still running after `wait_s`.
        """
        details = self.get(job)
        if not details.status.is_terminal():
            self._client.stop_job(job)
        deadline = time.monotonic() + wait_s
        while not (status := self._client.get_job_status(job)).is_terminal():
            if time.monotonic() > deadline:
                raise FusechatError(f"{job}: still {str(status).lower()} {wait_s:.0f} s after the request to stop")
            time.sleep(0.3)
        return str(status.value)


def _use_local_token(address: str) -> None:
    """Uses this machine's token for a cluster on this machine, like Ray's own programs.

    The first local Ray stores a token in the user's folder, and `ray start` requires it from then on. For another
    machine, a token must be set explicitly.
    """
    is_local = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
    if is_local and (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
