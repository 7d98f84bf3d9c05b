"""What the manifests say, done, in the chart's pods.

The pods are confined process trees of this machine (pods.py). Everything is at the pods' own paths; the test gives the
folders behind the claims, and the secret with the keys.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pods
import pytest
import yaml
from charts import CHART, ROOT, Object, given, helm, only, ray_cluster

from fusechat.services import auth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
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


# --- the service

CODE = {"domain": "code", "entry_point": "f", "tests": "assert f(1) == 2\nassert f(41) == 42"}
# What models write -> the verdict's reason.
WRITTEN = {
    "def f(x):\n    return x + 1": "passed",
    "def f(x):\n    return x": "failed",
    "import os\nos._exit(0)": "error",
    "class E:\n    def __eq__(self, o): return True\ndef f(x): return E()": "error",
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
