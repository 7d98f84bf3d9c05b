"""Ray on this machine, and trainers of a target small enough to train in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forked
import psutil
import pyarrow as pa
import pytest
from forked import Forked

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


def training_workers() -> list[psutil.Process]:
    """Those below this process that train."""
    return [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in p.name()]


@pytest.fixture(scope="session")
def nodes() -> Iterator[Cluster]:
    """A Ray cluster on this machine, shared by all that need one: a head without CPUs, and nodes that may be killed.

    It has this user's token, as any local Ray has: a process that has once been in one asks for it ever after.
    """
    from ray._private.authentication import authentication_token_setup as authentication
    from ray.cluster_utils import Cluster

    authentication.enable_token_auth_by_default()
    authentication.ensure_token_if_auth_enabled(create_token_if_missing=True)
    soon = {"health_check_period_ms": 500}  # five checks tell that a node is gone; a slow one has 10 s for each
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100_000_000, "_system_config": soon}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        found = Cluster(initialize_head=True, head_node_args=head)
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def connected(nodes: Cluster) -> Iterator[None]:
    """This process in the cluster."""
    import ray

    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def ray_cluster(connected: None, nodes: Cluster) -> None:
    """The cluster with two nodes of two CPUs each beside the head."""
    import ray

    there = sum(n["Alive"] and n["Resources"].get("CPU") == 2 for n in ray.nodes())
    for _ in range(2 - there):
        nodes.add_node(num_cpus=2, object_store_memory=100_000_000)


@pytest.fixture
def forked_workers() -> Iterator[Forked]:
    """Trainings go without Ray."""
    with forked.workers() as found:
        yield found


@pytest.fixture
def build(target: Path, tmp_path: Path) -> Callable[..., Any]:
    """The product's own trainer in this process, without Ray: `build(config, rows)` for an Sft or a Dpo."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback

    from fusechat.pipeline.recipe import Dpo, Optimization
    from fusechat.pipeline.recipe.precision import of_training
    from fusechat.training import data, dpo, sft, trainer_callback, trainer_internals, worker
    from fusechat.training.driver import TrainingJob

    def make(
        config: Optimization,
        rows: pa.Table,
        *,
        model: Path = target,
        chat_template: str | None = None,
        reference: Path | None = None,
        seed: int = 0,
        dtype: str = "float32",
        report_to: tuple[str, ...] = (),
        heldout: pa.Table | None = None,
    ) -> Any:
        stage = "dpo" if isinstance(config, Dpo) else "sft"
        job = TrainingJob(
            stage=stage,
            model=str(model),
            output=str(tmp_path / "output"),
            config=of_training(config, 0),
            num_workers=1,
            accumulation=config.global_batch_size // config.micro_batch_size,
            use_gpu=False,
            chat_template=chat_template,
            seed=seed,
            reference=str(reference) if reference else None,
            report_to=report_to,
        )
        job.path().mkdir(exist_ok=True)
        tokenizer = data.load_tokenizer(model, chat_template)
        tokenize, make_trainer = (
            (data.tokenize_pairs, dpo.make_trainer) if stage == "dpo" else (data.tokenize_sft, sft.make_trainer)
        )
        template = data.ChatTemplate(tokenizer, data.generation_end_ids(model))
        tokens = tokenize(rows, template, config.max_length)
        held = Dataset(tokenize(heldout, template, config.max_length).table) if heldout is not None else None
        net = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
        arguments = worker.training_arguments(job) | {"save_strategy": "no"}
        made = make_trainer(job, arguments, net, tokenizer, Dataset(tokens.table), held)
        made.remove_callback(PrinterCallback)
        made.job = job
        trainer_callback.attach(
            made,
            job,
            True,
            trainer_callback.training_rows(
                tokens.row_ids, trainer_internals.train_sampler(made).rows_of_step, Dataset(tokens.table)
            ),
        )
        return made

    return make
