"""Pods of a manifest without Kubernetes: each container a confined process tree of this machine with its own address.

What the manifest says is done: user, capabilities, privileges, system calls, read-only root, mounts, environment, and
`ray start` as the operator makes it of rayStartParams and limits. The image is this environment at the image's places
(/opt/fusechat). What a cluster would bring is given by the test: the claims' folders, and secrets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

import psutil
from charts import ROOT, Object

HERE = str(Path(__file__).parent)
ETC = ("alternatives", "group", "hosts", "ld.so.cache", "localtime", "nsswitch.conf", "passwd", "ssl")
"""What programs look for there; the rest of this machine's is its own affair."""
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
# Of the Dockerfile.
IMAGE_ENV = {
    "PATH": "/opt/fusechat/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOME": "/tmp",
}
PATIENCE = {"RAY_raylet_start_wait_time_s": "150", "RAY_health_check_period_ms": "500"}
"""Of this machine, on which others may work. A node that is gone is asked five times in 2.5 s, not in 15; one that
answers late has as long as ever."""
ASK = """
import json, sys, urllib.error, urllib.request
method, url, body, headers = json.loads(sys.argv[1])
data = None if body is None else json.dumps(body).encode()
request = urllib.request.Request(url, data, {"content-type": "application/json", **headers}, method=method)
try:
    with urllib.request.urlopen(request, timeout=300) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print(0, error)
"""


def missing() -> str:
    """Why no pod can run here; empty where they can."""
    if os.geteuid() != 0 or os.uname().machine != "x86_64":
        return "pods need root on x86-64"
    probe = "unshare --mount --pid --net --fork ip link add veth0 type veth peer name veth1"
    done = subprocess.run(probe.split(), capture_output=True, text=True, check=False, timeout=300)
    return "" if done.returncode == 0 else f"pods need namespaces and veth: {done.stderr.strip()}"


def size(text: str) -> int:
    """Bytes of a Kubernetes quantity, e.g. 4Gi."""
    return int(text[:-2]) * UNITS[text[-2:]]


def image() -> list[list[str]]:
    """What of this machine stands for the image, at its places: [source, place] each."""
    venv, recipes = Path(sys.prefix), ROOT / "pipeline/recipes"
    places = ["/usr", "/bin", "/lib", "/lib64", "/sbin", *(f"/etc/{name}" for name in ETC)]
    found = [[p, p] for p in places if os.path.lexists(p)]
    own = [str(ROOT), sys.base_prefix, *([] if venv.is_relative_to(ROOT) else [str(venv)])]
    found += [[p, p] for p in own if not p.startswith("/usr")]
    found += [[str(venv / name), f"/opt/fusechat/{name}"] for name in ("bin", "lib", "pyvenv.cfg")]
    return found + [[str(f), f"/opt/fusechat/recipes/{f.name}"] for f in recipes.iterdir() if f.name != "__pycache__"]


def compile_engine() -> None:
    """Leaves bytecode of what an engine imports, as the image has it: pods can write none, each would compile it."""
    spec = find_spec("vllm")
    assert spec is not None and spec.origin is not None
    if not Path(cache_from_source(str(Path(spec.origin).parent / "v1/worker/cpu_worker.py"))).exists():
        script = "import ray.serve.llm, vllm.v1.engine.async_llm, vllm.v1.worker.cpu_worker"
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run([sys.executable, "-c", script], env=env, check=True, capture_output=True)


@dataclass
class Pod:
    """A container that runs, until it is killed."""

    process: subprocess.Popen[str]
    spec: dict[str, Any]
    address: str
    log: Path

    def run(self, *command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A further command in the container, as `kubectl exec` runs one."""
        inner = str(self._first().pid)
        spec = json.dumps(self.spec | {"command": list(command), "joins": True, "reads": [], "writes": []})
        enter = ["nsenter", "-t", inner, "--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd"]
        return subprocess.run(
            [*enter, sys.executable, f"{HERE}/confined.py", spec],
            capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _first(self) -> psutil.Process:
        """Its first process, once that has become the container's command."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            for child in psutil.Process(self.process.pid).children():
                if not any("confined.py" in word for word in child.cmdline()):
                    return child
            time.sleep(0.05)
        raise RuntimeError(f"the container does not start: {self.log.read_text()}")

    def kill(self) -> None:
        """All its processes at once, as when its node is gone: they end with the first of their namespace."""
        if self.process.poll() is None:
            for first in psutil.Process(self.process.pid).children():
                first.kill()
            self.process.kill()
        self.process.wait()


@dataclass
class Network:
    """A bridge that nobody else sees, and the pods on it.

    Args:
        folder: holds what pods need while they run.
        claims: folder of each persistent volume's name in the pods' volumes.
    """

    folder: Path
    claims: Mapping[str, Path]
    manifest: list[Object]
    hub: subprocess.Popen[bytes]
    pods: list[Pod] = field(default_factory=list)
    started: int = 0

    def start(self, template: Object, container: Object, command: list[str]) -> Pod:
        """Starts a container of a pod template."""
        self.started += 1
        number = self.started + 1  # the bridge has the first address
        address = f"10.77.0.{number}"
        place = self.folder / f"pod{number}"
        for name in ("root", "tmp"):
            (place / name).mkdir(parents=True)
        (place / "tmp").chmod(0o1777)
        spec = self._spec(template, container, place) | {"command": command}
        unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
        with (place / "log").open("w") as log:
            process = subprocess.Popen(
                [*unshare, "--propagation", "private", sys.executable, f"{HERE}/confined.py", json.dumps(spec)],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        pod = Pod(process, spec, address, place / "log")
        self.pods.append(pod)
        self._join(process.pid, number)
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.close()
        return pod

    def _spec(self, template: Object, container: Object, place: Path) -> dict[str, Any]:
        pod, security = template["spec"], container["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]} and "add" not in security["capabilities"]
        volumes = {v["name"]: v for v in pod["volumes"]}
        reads, writes, memory = image(), [], []
        for mounted in container["volumeMounts"]:
            volume, where = volumes[mounted["name"]], mounted["mountPath"]
            if volume.get("emptyDir", {}).get("medium") == "Memory":
                memory.append([where, size(volume["emptyDir"]["sizeLimit"])])
                continue
            source = place / "tmp" if "emptyDir" in volume else self._source(volume)
            what = [str(source / mounted.get("subPath", "")), where]
            (reads if mounted.get("readOnly") else writes).append(what)
        return {
            "root": str(place / "root"),
            "reads": reads,
            "writes": writes,
            "memory": memory,
            "user": pod["securityContext"]["runAsUser"],
            "environment": IMAGE_ENV | PATIENCE | {e["name"]: e["value"] for e in container["env"] if "value" in e},
            "joins": False,
        }

    def _source(self, volume: Object) -> Path:
        """The folder of a claim, of a secret that the test gives, or of the manifest's ConfigMap."""
        if "configMap" not in volume:
            return self.claims[volume["name"]]
        name = volume["configMap"]["name"]
        (found,) = [o for o in self.manifest if o["kind"] == "ConfigMap" and o["metadata"]["name"] == name]
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, text in found["data"].items():
            (folder / file).write_text(text)
        return folder

    def _join(self, pid: int, number: int) -> None:
        """Gives a pod its address."""
        deadline = time.monotonic() + 300
        while Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        steps = {
            self.hub.pid: (
                f"link add pod{number} type veth peer name eth0 netns {pid}",
                f"link set pod{number} master br0 up",
            ),
            pid: (
                "link set lo up",
                f"addr add 10.77.0.{number}/24 dev eth0",
                "link set eth0 up",
                "route add default via 10.77.0.1",
            ),
        }
        for where, lines in steps.items():
            for line in lines:
                subprocess.run(["nsenter", "-n", "-t", str(where), "ip", *line.split()], check=True)

    def outside(self, *command: str) -> subprocess.Popen[bytes]:
        """A process of this machine on the pods' network, at 10.77.0.1."""
        return subprocess.Popen(["nsenter", "-n", "-t", str(self.hub.pid), *command])

    def ask(self, method: str, url: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and text of an answer; status 0 where there is none."""
        words = json.dumps([method, url, body, headers])
        done = subprocess.run(
            ["nsenter", "-n", "-t", str(self.hub.pid), sys.executable, "-I", "-c", ASK, words],
            capture_output=True, text=True, check=True, timeout=500,
        )  # fmt: skip
        status, _, text = done.stdout.partition(" ")
        return int(status), text

    def ray(self, cluster: Object, head: Pod | None = None, group: int = 0) -> Pod:
        """Starts the head's pod of a Ray cluster, or a worker's of one of its groups; returns when Ray knows it."""
        spec = cluster["workerGroupSpecs"][group] if head else cluster["headGroupSpec"]
        container = spec["template"]["spec"]["containers"][0]
        limits = container["resources"]["limits"]
        params = {"num-cpus": limits["cpu"], "memory": size(limits["memory"])} | spec["rayStartParams"]
        where = f"--address={head.address}:6379" if head else "--head"
        words = ["ulimit -n 65536 2>/dev/null;", "ray start", where, "--block", "--dashboard-agent-listen-port=52365"]
        words += [f"--{key}={value}" for key, value in params.items()]
        pod = self.start(spec["template"], container, ["/bin/bash", "-c", " ".join(words)])
        self._wait_for_nodes(head or pod, len(self.pods))
        assert "instead of /dev/shm" not in pod.log.read_text(), (
            pod.log.read_text()
        )  # as Ray says of a slow object store
        return pod

    def _wait_for_nodes(self, head: Pod, num: int) -> None:
        deadline = time.monotonic() + 500
        while True:
            status, text = self.ask("GET", f"http://{head.address}:8265/api/v0/nodes?detail=1")
            if status == 200:
                found = json.loads(text)["data"]["result"]["result"]
                if sum(n["state"] == "ALIVE" for n in found) >= num:
                    return
            dead = [p for p in self.pods if p.process.poll() is not None]
            assert not dead and time.monotonic() < deadline, "".join(p.log.read_text() for p in self.pods)
            time.sleep(0.5)


@contextmanager
def network(folder: Path, claims: Mapping[str, Path], manifest: list[Object]) -> Iterator[Network]:
    """A network for pods; they end with it."""
    hub = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    found = Network(folder, claims, manifest, hub)
    try:
        while Path(f"/proc/{hub.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        for step in ("link set lo up", "link add br0 type bridge", "addr add 10.77.0.1/24 dev br0", "link set br0 up"):
            subprocess.run(["nsenter", "-n", "-t", str(hub.pid), "ip", *step.split()], check=True)
        yield found
    finally:
        for pod in found.pods:
            pod.kill()
        hub.kill()
        hub.wait()


def claim(folder: Path, group: int) -> Path:
    """A volume as Kubernetes hands it to a pod with that fsGroup."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group)
        path.chmod(0o2775 if path.is_dir() else 0o664)
    return folder
