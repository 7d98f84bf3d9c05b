"""Checkpoints are whole or not used; a full disk is recognised; a diverging loss is told from a noisy one."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from fusechat.training import checkpoints, trainer_callback


def _checkpoint(folder: Path, step: int) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "rng_state_0.pth"):
        (checkpoint / name).write_bytes(b"x" * step)
    checkpoints.mark_complete(checkpoint)
    return checkpoint


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda c: (c / "optimizer.pt").write_bytes(b"x"),
    "a file is gone": lambda c: (c / "rng_state_0.pth").unlink(),
    "no marker": lambda c: (c / checkpoints.COMPLETE_MARKER).unlink(),
    "half a marker": lambda c: (c / checkpoints.COMPLETE_MARKER).write_text('{"model'),
    "an empty marker": lambda c: (c / checkpoints.COMPLETE_MARKER).write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    before, last = _checkpoint(tmp_path, 10), _checkpoint(tmp_path, 20)
    assert checkpoints.latest_complete(tmp_path) == last
    DAMAGES[damage](last)
    assert checkpoints.latest_complete(tmp_path) == before
    assert checkpoints.latest_complete(tmp_path, remove_incomplete=True) == before
    assert not last.exists()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_a_full_disk_is_recognised_whoever_says_it(error: Exception, full: bool) -> None:
    assert checkpoints.is_disk_full(error) is full


@pytest.mark.parametrize(
    ("losses", "diverges"),
    [
        ([0.7] * 10 + [2.2] * 10, True),
        ([2.0] * 5 + [1.5] * 100 + [1.0 + 0.5 * i for i in range(20)], True),
        ([0.7] * 10 + [0.7, 5.0] * 2 + [0.6] * 6, False),
        ([0.01] * 10 + [0.09] * 10, False),
        ([0.7] * 5 + [9.0] * 5, False),
        ([3.0 - 0.1 * i for i in range(30)], False),
    ],
)
def test_a_diverging_loss_is_told_from_a_noisy_one(losses: list[float], diverges: bool) -> None:
    assert trainer_callback.diverges(losses) is diverges
