"""Recipes that come in several sizes: which one suits this machine, and how long it will take."""

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
"""Percent of a run's time that each stage takes, about, where nothing more is known."""


def speed() -> float:
    """Operations a second of this machine's processor, in the precision that suits it, within its container's limit."""
    share = min(1.0, cpu_limit() / num_cores())  # the limit of half a core lets a short measurement run on a whole one
    return gflops(cpu_precision()) * 1e9 * share


def seconds(size: Size, operations: float) -> dict[str, float]:
    """Stage -> seconds that it takes where so many operations a second are computed."""
    return {stage: work.seconds + work.tflop * 1e12 / operations for stage, work in size.work.items()}


def choose(tree: Mapping[str, Any]) -> str | None:
    """The size of a recipe as it is written, or none where it has none.

    A run that was begun keeps its size. On a cluster, whose machines are not this one, the largest is taken.
    """
    sizes, wanted = tree.get("sizes"), tree.get("size")
    if not isinstance(sizes, dict) or not sizes or wanted not in (None, "auto"):
        return None if wanted is None else str(wanted)
    try:
        found = ordered({name: Size.model_validate(size) for name, size in sizes.items()})
    except ValidationError:
        return str(next(iter(sizes)))  # the recipe's own validation says what is wrong
    largest, cluster = list(found)[-1], tree.get("cluster")
    begun = _begun(tree.get("run_dir"), largest)
    if begun is not None and begun in found:
        return begun
    if isinstance(cluster, dict) and cluster.get("address") is not None:
        return largest
    operations, memory = speed(), machine_memory() / GIB
    minutes = tree.get("size_minutes", Recipe.model_fields["size_minutes"].default)
    limit = 60 * minutes if isinstance(minutes, int | float) else 0.0  # likewise
    fitting = [
        name
        for name, size in found.items()
        if sum(seconds(size, operations).values()) <= limit and size.memory_gb <= memory
    ]
    return fitting[-1] if fitting else next(iter(found))


def ordered(sizes: Mapping[str, Size]) -> dict[str, Size]:
    """The sizes, the smallest first."""

    def work(item: tuple[str, Size]) -> tuple[float, float]:
        return sum(w.tflop for w in item[1].work.values()), sum(w.seconds for w in item[1].work.values())

    return dict(sorted(sizes.items(), key=work))


def changes(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings that a size of a recipe as it is written puts in place of others, by dotted key."""
    sizes = tree.get("sizes")
    size = sizes.get(name) if isinstance(sizes, dict) else None
    found = size.get("changes") if isinstance(size, dict) else None
    return found if isinstance(found, dict) else {}


def _begun(run_dir: object, before: str) -> str | None:
    """The size of the run that is kept there; `before` where it was begun before recipes had sizes."""
    from ..storage.run_dir import RunDir

    if not isinstance(run_dir, str):
        return None
    try:
        run = RunDir(run_dir)
        if not run.exists("run.json"):
            return None
        size = run.read_json("run.json").get("settings", {}).get("size")
    except FusechatError:
        return None  # whoever opens the run says why
    return before if size is None else str(size)


def expected(recipe: Recipe) -> tuple[dict[str, float], bool]:
    """Stage -> how long it takes, and whether that is in seconds; else only their shares of a usual run are known."""
    if recipe.size is None or recipe.cluster.address is not None:
        return dict(USUAL_SHARES), False
    return dict.fromkeys(USUAL_SHARES, 1.0) | seconds(recipe.sizes[recipe.size], speed()), True


def check(recipe: Recipe) -> None:
    """Holds the size against this machine's memory.

    Raises:
        CapacityError: it needs more.
    """
    if recipe.size is None or recipe.cluster.address is not None:
        return
    needed, memory = recipe.sizes[recipe.size].memory_gb, machine_memory() / GIB
    if memory < needed:
        smaller = [name for name, size in ordered(recipe.sizes).items() if size.memory_gb <= memory]
        setting = f"size: {smaller[-1]}" if smaller else "the machine; no size of this recipe is smaller"
        raise CapacityError(f"size {recipe.size}", f"{needed:g} GiB of memory", f"{memory:.1f} GiB", setting)


def told(recipe: Recipe) -> Iterator[str]:
    """What is to be said of a recipe with sizes: what this machine computes, which size it takes, how long."""
    if recipe.size is None or recipe.cluster.address is not None:
        return
    operations = speed()
    took = sum(seconds(recipe.sizes[recipe.size], operations).values())
    others = ", ".join(name for name in recipe.sizes if name != recipe.size)
    yield (
        f"size: {recipe.size}, about {math.ceil(took / 60)} minutes in all on {num_cores()} cores that compute "
        f"{operations / 1e9:.0f} GFLOP/s in {cpu_precision()}" + (f"; another: --set size={others}" if others else "")
    )
