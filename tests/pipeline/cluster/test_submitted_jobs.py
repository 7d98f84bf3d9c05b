"""`fusechat submit`, `jobs`, `logs` and `stop` on a real Ray cluster of two nodes.

As on a machine on which Ray has run before: there is a token in the user's folder, and `ray start` asks for it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import distant
import httpx
import psutil
import pytest

from fusechat.pipeline.cluster.connect import free_port

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
ENV = {
    **{k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")},
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "COLUMNS": "200",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster of this machine."""

    address: str
    """Of its dashboard."""
    home: Path
    """The folder of the user who started it."""

    def get(self, route: str) -> httpx.Response:
        """Answer of the dashboard."""
        headers = {"Authorization": f"Bearer {(self.home / '.ray/auth_token').read_text()}"}
        return httpx.get(self.address + route, headers=headers, trust_env=False, timeout=60)

    def jobs_of(self, run: Path) -> list[dict[str, str]]:
        """Jobs on a run directory."""
        return [j for j in self.get("/api/jobs/").json() if (j["metadata"] or {}).get("fusechat_run_dir") == str(run)]

    def log(self, job: str) -> str:
        """What a job has printed so far."""
        return str(self.get(f"/api/jobs/{job}/logs").json()["logs"])

    def fusechat(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The command, as that user calls it."""
        return subprocess.run(
            command(*args, "--address", self.address),
            capture_output=True, text=True, check=False, env=ENV | {"HOME": str(self.home)} | env,
        )  # fmt: skip


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "fusechat.pipeline.cli", *args]


@contextmanager
def node(home: Path, num_cpus: int, *options: str, **more: str) -> Iterator[None]:
    """A node, until the end of the block; ended with all its processes, by their ids."""
    ports = ("dashboard-agent-listen-port", "metrics-export-port", "runtime-env-agent-port")
    start = [str(BIN / "ray"), "start", "--block", "--disable-usage-stats", f"--num-cpus={num_cpus}"]
    start += ["--object-store-memory=100000000", *(f"--{port}={free_port()}" for port in ports), *options]
    env = ENV | {"HOME": str(home)} | more
    with (home / "log").open("a") as log:
        # A group of its own: Ray's reaper ends the whole group of a node whose first process dies.
        process = subprocess.Popen(start, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield
    finally:
        started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in started:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(300)


def wait_for_nodes(cluster: Cluster, num: int) -> None:
    """Returns once so many nodes are up."""
    deadline = time.monotonic() + 500
    said = ""
    while said.count('"ALIVE"') < num:
        assert time.monotonic() < deadline, f"no {num} nodes: {said}\n{(cluster.home / 'log').read_text()}"
        time.sleep(0.3)
        with suppress(httpx.HTTPError):
            said = cluster.get("/api/v0/nodes?detail=1").text


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes, of one and of two CPUs."""
    folder, second = (tempfile.mkdtemp(prefix="fc-", dir="/tmp") for _ in range(2))  # sockets' paths must be short
    home = Path(folder, "home")
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    port, dashboard = free_port(), free_port()
    found = Cluster(f"http://127.0.0.1:{dashboard}", home)
    head = ["--head", f"--port={port}", "--include-dashboard=true", f"--dashboard-port={dashboard}"]
    head += [f"--temp-dir={folder}", f"--ray-client-server-port={free_port()}"]
    try:
        with node(home, 1, *head):
            wait_for_nodes(found, 1)
            # A folder for each node: a node that unpacks a job's files first deletes those that are there.
            worker = [f"--address=127.0.0.1:{port}", f"--temp-dir={second}"]
            with node(home, 2, *worker, RAY_AUTH_MODE="token"):  # only a head finds the token by itself
                wait_for_nodes(found, 2)
                yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(second, ignore_errors=True)


@dataclass(frozen=True)
class Endpoint:
    """A source, each of whose answers takes 0.15 s."""

    url: str
    process: psutil.Popen

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No request is answered meanwhile, so what waits for answers does not end."""
        self.process.suspend()
        try:
            yield
        finally:
            self.process.resume()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    port = free_port()
    process = psutil.Popen([sys.executable, distant.__file__, "127.0.0.1", str(port), "0.15"])
    yield Endpoint(f"http://127.0.0.1:{port}/v1", process)
    process.kill()
    process.wait()


@pytest.fixture
def recipe(tmp_path: Path, endpoint: Endpoint) -> Path:
    """A recipe whose prompts are read, and whose sampling takes six seconds or more."""
    path = distant.recipe(tmp_path, endpoint.url, 80)
    subprocess.run(command("prompts", str(path)), check=True, timeout=600, env=ENV, stdout=subprocess.DEVNULL)
    return path


def wait_for_samples(cluster: Cluster, run: Path, client: subprocess.Popen[str] | None = None) -> None:
    """Returns once a job has written samples.

    Fails at once, with what the job printed, if the job or the client that submits it ends without.
    """
    deadline = time.monotonic() + 500
    while True:
        jobs = cluster.jobs_of(run)
        submitted = client is None or client.poll() is None
        if any((run / "sample").glob("**/*.parquet")):
            return
        waiting = submitted and all(j["status"] in ("PENDING", "RUNNING") for j in jobs)
        assert waiting and time.monotonic() < deadline, [
            (j["status"], j["message"], cluster.log(j["submission_id"])) for j in jobs
        ]
        time.sleep(0.3)


def test_a_job_goes_on_when_its_client_is_killed_and_nothing_is_lost(
    cluster: Cluster, recipe: Path, tmp_path: Path, endpoint: Endpoint
) -> None:
    submit = ("submit", str(recipe), "--stage", "sample")
    client = subprocess.Popen(
        command(*submit, "--address", cluster.address),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV | {"HOME": str(cluster.home)},
    )  # fmt: skip
    wait_for_samples(cluster, tmp_path / "run", client)
    client.kill()
    seen, said = client.communicate()
    job = said.partition(":")[0]
    assert re.fullmatch(r"fusechat-distant-[0-9a-f]{8}", job), said

    with endpoint.paused():
        listed = cluster.fusechat("jobs").stdout
        refused = cluster.fusechat(*submit)
    assert re.search(rf"^{job}  RUNNING  .*  {tmp_path}/run$", listed, re.MULTILINE), listed
    assert refused.returncode == 2 and f"the job {job} works on it" in refused.stderr

    followed = cluster.fusechat("logs", job)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "sample: starting" in seen and followed.stdout.startswith(seen)
    assert "sample: done in" in followed.stdout and "160 responses, 0 rejected" in followed.stdout
    assert not distant.lost(recipe)


def test_a_job_that_fails_ends_the_command_with_its_code_and_message(cluster: Cluster, recipe: Path) -> None:
    here = subprocess.run(command("select", str(recipe)), capture_output=True, text=True, check=False, timeout=600)
    done = cluster.fusechat("submit", str(recipe), "--stage", "select")
    assert here.returncode == done.returncode == 1, done.stdout + done.stderr
    assert here.stderr.strip() in done.stdout


def test_a_stopped_job_goes_on_where_it_stopped(cluster: Cluster, recipe: Path, tmp_path: Path) -> None:
    submitted = cluster.fusechat("submit", str(recipe), "--detach")  # of all stages it gets to the second
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    wait_for_samples(cluster, tmp_path / "run")
    stopped = cluster.fusechat("stop", job)
    assert (stopped.returncode, stopped.stdout) == (0, f"{job}: stopped\n"), stopped.stderr
    assert re.search(rf"^{job}  STOPPED  ", cluster.fusechat("jobs").stdout, re.MULTILINE)
    assert cluster.fusechat("logs", job).returncode == 1
    before = len(distant.lost(recipe))
    assert 0 < before < 160
    again = cluster.fusechat("submit", str(recipe), "--stage", "sample")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "were done before" in again.stdout and not distant.lost(recipe)


def test_what_a_real_cluster_cannot_place_is_refused(cluster: Cluster, recipe: Path) -> None:
    done = cluster.fusechat("submit", str(recipe), "--set", "training.num_cpus=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "training needs 3 CPU, the cluster has 2 nodes: " in done.stderr


def test_a_real_cluster_asks_for_its_token(cluster: Cluster, recipe: Path, tmp_path: Path) -> None:
    without = cluster.fusechat("submit", str(recipe), HOME=str(tmp_path))
    assert (without.returncode, without.stdout) == (2, "")
    assert "asks for a token: set RAY_AUTH_MODE=token" in without.stderr
    wrong = cluster.fusechat("jobs", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert (wrong.returncode, wrong.stdout) == (2, "") and "refuses the token" in wrong.stderr
