"""Recipes in several sizes: selects the size for this machine and estimates how long the run takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import CapacityError, FusechatError
from ..machine.hardware import cpu_limit, cpu_precision, gflops, machine_memory, num_cores
from .schema import Recipe
from .size_options import Size

GIB = 2**30
USUAL_SHARES = {
    "prompts": 1.0,
    "sample": 30.0,
    "score": 20.0,
    "select": 1.0,
    "sft": 25.0,
    "dpo": 8.0,
    "evaluate": 14.0,
    "report": 1.0,
}
"""Approximate share of a run's time per stage, in percent, when nothing more is known."""


def speed() -> float:
    """Returns the processor's operations per second, in its best precision and within the container's CPU limit."""
    # A short measurement runs on a whole core even if the limit is half a core.
    share = min(1.0, cpu_limit() / num_cores())
    return gflops(cpu_precision()) * 1e9 * share


def seconds(size: Size, operations: float) -> dict[str, float]:
    """Returns stage -> seconds at the given operations per second."""
    return {stage: work.seconds + work.tflop * 1e12 / operations for stage, work in size.work.items()}


def choose(tree: Mapping[str, Any]) -> str | None:
    """Returns the size for a recipe's YAML tree, or None if the recipe has no sizes.

    A run that has begun keeps its size. On a cluster it is the largest size, because the run uses other machines.
    """
    sizes, wanted = tree.get("sizes"), tree.get("size")
    if not isinstance(sizes, dict) or not sizes or wanted not in (None, "auto"):
        return None if wanted is None else str(wanted)
    try:
        candidates = ordered({name: Size.model_validate(size) for name, size in sizes.items()})
    except ValidationError:
        return str(next(iter(sizes)))  # the recipe's validation reports the mistake
    largest, cluster = list(candidates)[-1], tree.get("cluster")
    begun = _begun(tree.get("run_dir"), largest)
    if begun is not None and begun in candidates:
        return begun
    if isinstance(cluster, dict) and cluster.get("address") is not None:
        return largest
    operations, memory = speed(), machine_memory() / GIB
    minutes = tree.get("size_minutes", Recipe.model_fields["size_minutes"].default)
    limit = 60 * minutes if isinstance(minutes, int | float) else 0.0  # reported by the validation
    fitting = [
        name
        for name, size in candidates.items()
        if sum(seconds(size, operations).values()) <= limit and size.memory_gb <= memory
    ]
    return fitting[-1] if fitting else next(iter(candidates))


def ordered(sizes: Mapping[str, Size]) -> dict[str, Size]:
    """Returns the sizes, smallest first."""

    def work(item: tuple[str, Size]) -> tuple[float, float]:
        return sum(w.tflop for w in item[1].work.values()), sum(w.seconds for w in item[1].work.values())

    return dict(sorted(sizes.items(), key=work))


def changes(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns dotted key -> value for the settings that a size of a recipe's YAML tree replaces."""
    sizes = tree.get("sizes")
    size = sizes.get(name) if isinstance(sizes, dict) else None
    settings = size.get("changes") if isinstance(size, dict) else None
    return settings if isinstance(settings, dict) else {}


def _begun(run_dir: object, default: str) -> str | None:
    """Returns the size of the run in a directory, or `default` for a run that began before recipes had sizes."""
    from ..storage.run_dir import RunDir

    if not isinstance(run_dir, str):
        return None
    try:
        run = RunDir(run_dir)
        if not run.exists("run.json"):
            return None
        size = run.read_json("run.json").get("settings", {}).get("size")
    except FusechatError:
        return None  # reported when the run is opened
    return default if size is None else str(size)


def expected(recipe: Recipe) -> tuple[dict[str, float], bool]:
    """Returns stage -> duration, and whether durations are in seconds. If not, they are shares of a typical run."""
    if recipe.size is None or recipe.cluster.address is not None:
        return dict(USUAL_SHARES), False
    return dict.fromkeys(USUAL_SHARES, 1.0) | seconds(recipe.sizes[recipe.size], speed()), True


def check(recipe: Recipe) -> None:
    """Checks that this machine has the memory that the size needs.

    Raises:
        CapacityError: the size needs more memory.
    """
    if recipe.size is None or recipe.cluster.address is not None:
        return
    needed, memory = recipe.sizes[recipe.size].memory_gb, machine_memory() / GIB
    if memory < needed:
        smaller = [name for name, size in ordered(recipe.sizes).items() if size.memory_gb <= memory]
        setting = f"size: {smaller[-1]}" if smaller else "the machine; no size of this recipe is smaller"
        raise CapacityError(f"size {recipe.size}", f"{needed:g} GiB of memory", f"{memory:.1f} GiB", setting)


def summary(recipe: Recipe) -> Iterator[str]:
    """Yields a line for a recipe with sizes: the machine's speed, the selected size, and the expected time."""
    if recipe.size is None or recipe.cluster.address is not None:
        return
    operations = speed()
    duration = sum(seconds(recipe.sizes[recipe.size], operations).values())
    others = ", ".join(name for name in recipe.sizes if name != recipe.size)
    yield (
        f"size: {recipe.size}, about {math.ceil(duration / 60)} minutes in all on {num_cores()} cores that compute "
        f"{operations / 1e9:.0f} GFLOP/s in {cpu_precision()}" + (f"; another: --set size={others}" if others else "")
    )
