"""The tokens of imported responses, which no engine has counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import StageError, one_line
from ..recipe import DOMAINS, ImportedSource
from ..run import Run

BATCH = 1000
"""Texts that are tokenized together."""


def is_needed(run: Run) -> bool:
    """Whether a rule of selection limits the tokens of imported responses.

    Otherwise nothing depends on their number, and a run needs no tokenizer before it trains.
    """
    limited = any(run.recipe.select.rule(domain).max_tokens is not None for domain in DOMAINS)
    return limited and any(isinstance(source, ImportedSource) for source in run.recipe.sources)


def counter(run: Run) -> Callable[[Sequence[str]], list[int]]:
    """A function that counts the tokens of texts with the target's tokenizer.

    The model that wrote an imported response may be unknown. The target's tokens are those that training limits too.

    Raises:
        StageError: the target has no tokenizer.
    """
    from transformers import AutoTokenizer

    folder = run.model(run.target.model, "target")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        cause = f"{folder} has no tokenizer, which counts the tokens of imported responses: {one_line(error)}"
        raise StageError("sample", "target.model", cause) from error

    def count(texts: Sequence[str]) -> list[int]:
        batches = (list(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH))
        return [len(ids) for batch in batches for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]]

    return count
