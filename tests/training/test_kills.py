"""Killed at a random step, a training goes on from its last checkpoint and ends with an undisturbed one's weights."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import forked
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.recipe import Dpo, Optimization, Sft, Training
from fusechat.training import checkpoints as files
from fusechat.training import dpo, sft

from .conftest import training_workers

pytestmark = pytest.mark.slow

STEPS = 300
COMMON: dict[str, Any] = {
    "learning_rate": 1e-2,
    "num_epochs": STEPS // 4,
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 128,
    "bf16": False,
    "save_steps": 10,
}
BY_RAY = "sft"
"""Ray Train does for DPO what it does for SFT: that shows it, and DPO what becomes of its own workers' state."""
CONFIGS: dict[str, Optimization] = {"sft": Sft(**COMMON), "dpo": Dpo(**COMMON, beta=0.1)}


def train(
    stage: str, rows: pa.Table, target: Path, output: Path, on_step: Callable[[Any], None] | None = None
) -> dict[str, Any]:
    """Trains, and returns the weights."""
    config, common = CONFIGS[stage], {"cluster": Training(), "chat_template": None, "seed": 0, "on_step": on_step}
    if isinstance(config, Dpo):
        dpo.train(rows, model=target, output=output, config=config, **common)
    else:
        assert isinstance(config, Sft)
        sft.train(rows, model=target, output=output, config=config, **common)
    return weights(output)


def weights(output: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    steps = [json.loads(line)["step"] for line in (output / "metrics.jsonl").open()]
    assert steps == list(range(1, STEPS + 1))
    found: dict[str, Any] = load_file(output / "model" / "model.safetensors")
    return found


def check_same(expected: dict[str, Any], found: dict[str, Any]) -> None:
    assert expected.keys() == found.keys()
    assert max(float((expected[name] - found[name]).abs().max()) for name in expected) < 1e-6


@pytest.fixture(scope="module", params=CONFIGS)
def undisturbed(
    request: Any, target: Path, sft_rows: Any, pairs: Any, tmp_path_factory: Any
) -> tuple[str, pa.Table, dict[str, Any]]:
    """A stage, its rows and the weights that it ends with when nobody disturbs it."""
    stage = request.param
    rows = (sft_rows if stage == "sft" else pairs)(16)
    with forked.workers():
        return stage, rows, train(stage, rows, target, tmp_path_factory.mktemp(stage) / "output")


def test_a_killed_worker_and_a_killed_node_change_nothing(
    undisturbed: Any, request: pytest.FixtureRequest, target: Path, tmp_path: Path
) -> None:
    stage, rows, expected = undisturbed
    faults = [("worker", random.randrange(21, 60)), ("node", random.randrange(120, 180))]
    seen = list(faults)
    if stage != BY_RAY:  # the worker dies, and where it is started again it knows nothing of the first
        for _, step in faults:
            with forked.workers(dies=(0, step)), pytest.raises(StageError, match="training workers"):
                train(stage, rows, target, tmp_path / "output")
        with forked.workers():
            check_same(expected, train(stage, rows, target, tmp_path / "output"))
        return
    request.getfixturevalue("ray_cluster")

    def disturb(event: Any) -> None:
        if not faults or event.step < faults[0][1]:
            return
        kind, _ = faults.pop(0)
        (victim,) = training_workers()
        victims = [victim]
        if kind == "node":
            raylet = victim.parent()
            assert raylet is not None
            victims = [raylet, *raylet.children(recursive=True)]
        for victim in victims:
            victim.kill()

    found = train(stage, rows, target, tmp_path / "output", disturb)
    assert not faults, f"of {seen} not all were done"
    check_same(expected, found)


DRIVER = """
import os, sys
from contextlib import nullcontext
from pathlib import Path
import forked, pyarrow.parquet as pq, ray
from fusechat.pipeline.recipe import Dpo, Sft, Training
from fusechat.pipeline.errors import Preempted
from fusechat.pipeline.cluster.preemption import preemption
from fusechat.training import dpo, sft
stage, rows, model, output, config, holds = sys.argv[1:]
if not holds:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
kind, training = (Sft, sft) if stage == "sft" else (Dpo, dpo)
try:
    with preemption(), forked.workers(holds=int(holds)) if holds else nullcontext():
        training.train(pq.read_table(rows), model=Path(model), output=Path(output),
                       config=kind.model_validate_json(config), cluster=Training(), chat_template=None, seed=0)
except Preempted:
    os._exit(0)  # as the command line does
"""


def test_a_killed_driver_and_a_sigterm_change_nothing(undisturbed: Any, target: Path, tmp_path: Path) -> None:
    stage, rows, expected = undisturbed
    pq.write_table(rows, tmp_path / "rows.parquet")
    output = tmp_path / "output"
    checkpoints = output / "checkpoints"
    arguments = [stage, tmp_path / "rows.parquet", target, output, CONFIGS[stage].model_dump_json()]

    def at(step: int) -> subprocess.Popen[bytes]:
        """A driver, once its worker has come to the step."""
        words = [*map(str, arguments), "" if stage == BY_RAY else str(step)]
        env = os.environ | {"PYTHONPATH": str(Path(forked.__file__).parent)}
        process = subprocess.Popen([sys.executable, "-c", DRIVER, *words], start_new_session=True, env=env)
        deadline = time.monotonic() + 500
        while not there(process, step):
            assert time.monotonic() < deadline and process.poll() is None, f"step {step} was not seen"
            time.sleep(0.01)
        return process

    def there(process: subprocess.Popen[bytes], step: int) -> bool:
        if stage != BY_RAY:
            with suppress(psutil.NoSuchProcess):  # another one has ended
                family = psutil.Process(process.pid).children(recursive=True)
                return any(member.status() == psutil.STATUS_STOPPED for member in family)
            return False
        return max((line["step"] for line in files.read_metrics(output / "metrics.jsonl")), default=0) >= step

    killed = at(random.randrange(21, 60))
    kill_tree(killed)
    assert files.step_of(files.latest_complete(checkpoints)) >= 10
    half = checkpoints / "checkpoint-9999"  # as a kill while saving leaves it
    half.mkdir()
    (half / "trainer_state.json").write_text("{")

    stopped = at(random.randrange(80, 120))
    stopped.send_signal(signal.SIGTERM)
    family = psutil.Process(stopped.pid).children(recursive=True)
    assert stopped.wait(300) == 0
    for member in family:  # what Ray started notices within seconds that it is to end
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=10)
    assert not (output / "result.json").exists()

    with forked.workers():
        check_same(expected, train(stage, rows, target, output))


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the driver and of all that Ray started for it."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    process.wait(300)
    psutil.wait_procs(family, timeout=10)
