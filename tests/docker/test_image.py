"""The image: the Dockerfile is clean, and the steps that it runs work in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND_LINE = (
    "typer",
    "click",
    "rich",
    "shellingham",
    "typing-extensions",
    "markdown-it-py",
    "mdurl",
    "pygments",
    "annotated-doc",
)
"""What `fusechat --help` needs: the whole of the lock takes minutes and gigabytes."""


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hadolint"), "--failure-threshold", "style", "Dockerfile"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_pinned_and_runs_as_nobody_in_particular() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}@${BASE_DIGEST}"] * 2
    last = text.rpartition("FROM")[2]
    assert "USER 10001:10001" in last and "RUN" not in last  # so no package manager has run, no build tool is left
    assert "uid: 10001" in (ROOT / "helm/fusechat/values.yaml").read_text()


def test_everything_that_the_dockerfile_copies_passes_dockerignore() -> None:
    passed = set((ROOT / ".dockerignore").read_text().split())
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert f"!{name}" in passed and (ROOT / name).exists()


def cut(lock: str, wanted: tuple[str, ...]) -> str:
    """The lock's entries of some packages."""
    entries = re.split(r"(?m)^(?=[a-z0-9])", lock)
    return "".join(e for e in entries if e.partition("==")[0] in wanted)


@pytest.fixture
def small_lock(tmp_path: Path) -> Path:
    """A lock for the command line alone."""
    file = tmp_path / "small.lock"
    file.write_text(cut((ROOT / "requirements/image.lock").read_text(), COMMAND_LINE))
    return file


def install(prefix: Path, lock: Path) -> subprocess.CompletedProcess[str]:
    """The Dockerfile's step, with nothing of this environment but uv and the registry's settings."""
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_")) or "proxy" in k.lower()}
    env = kept | {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHON": sys.executable,
        "HOME": str(prefix.parent),
    }
    command = ["sh", str(ROOT / "docker/install.sh"), str(prefix), str(lock), str(ROOT)]
    return subprocess.run(command, cwd=prefix.parent, env=env, capture_output=True, text=True, check=False, timeout=600)


def test_the_steps_install_the_product_into_an_empty_folder(small_lock: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "opt/fusechat"
    prefix.parent.mkdir()
    done = install(prefix, small_lock)
    assert done.returncode == 0, done.stderr
    said = subprocess.run([str(prefix / "bin/fusechat"), "--help"], capture_output=True, text=True, check=True, cwd="/")
    assert "submit" in said.stdout
    assert (prefix / "recipes/demo.yaml").is_file() and (prefix / "recipes/demo/math.jsonl").is_file()
    [site] = prefix.glob("lib/python3.*/site-packages")
    assert (site / "fusechat/services/playground.html").is_file()
    assert list(site.glob("fusechat/services/__pycache__/gateway.*.pyc"))
    assert not {"pip", "setuptools", "uv"} & {f.name for f in site.iterdir()}
    assert install(prefix, small_lock).returncode == 2  # not over what is there


def test_a_package_that_is_not_the_locked_one_is_refused(small_lock: Path, tmp_path: Path) -> None:
    small_lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, small_lock.read_text()))
    done = install(tmp_path / "opt", small_lock)
    assert done.returncode != 0 and "hash" in done.stderr.lower()
