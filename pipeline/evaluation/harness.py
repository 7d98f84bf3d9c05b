"""Tasks of lm-evaluation-harness: the harness makes the prompts and scores the answers; the run's deployments answer.

The harness is not a dependency of fusechat; it must be installed if a recipe names its tasks. Tasks that need
log-likelihoods or execute generated code are refused: the deployments return no log-likelihoods, and the code would run
outside the sandbox.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, StageError, one_line
from ..identities import prompt_id
from ..recipe import HarnessSuite, Sampling
from ..records import Message, plain_prompt
from .suites import LoadedSuite

VERSION = "0.4.13"
"""Version of the harness that this module was written for."""


class HarnessScore(NamedTuple):
    """The harness's score of one document."""

    prompt_id: str
    id: str
    score: float | None
    why: str


def check(suite: HarnessSuite) -> None:
    """Checks that the harness is installed.

    Raises:
        StageError: it is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise StageError(
            "evaluate",
            f"suite {suite.name}",
            f"kind harness needs lm-evaluation-harness, which is not installed: pip install lm_eval=={VERSION} in "
            "fusechat's environment, or evaluate the set's JSONL file with kind verified",
        )


def load(suite: HarnessSuite, base: Path, sampling: Sampling) -> LoadedSuite:
    """Collects the prompts of the tasks.

    Args:
        sampling: used if a task has no generation settings of its own.

    Raises:
        StageError: the harness is not installed, a task's data can't be read, or a task needs more than generated text.
        InputError: the tasks have no prompts.
    """
    loaded = LoadedSuite(suite)

    def record(messages: list[Message], settings: Mapping[str, Any]) -> str:
        identity = prompt_id(messages)
        if identity not in loaded.contents:
            file, line = ",".join(suite.tasks), len(loaded.prompts) + 1
            loaded.prompts.append(plain_prompt(identity, "", "instruction", messages, file, line))
            loaded.contents[identity] = messages[-1]["content"]
        loaded.samplings[identity] = sampling_of(settings, sampling)
        return ""

    ids = {scored.prompt_id: scored.id for scored in _run(suite, base, record)}
    for prompt in loaded.prompts:
        prompt["id"] = ids.get(prompt["prompt_id"], "")
    if not loaded.prompts:
        raise InputError(",".join(suite.tasks), 0, f"suite {suite.name}: the tasks have no prompts")
    return loaded


def score(suite: HarnessSuite, base: Path, answers: Mapping[str, str]) -> list[HarnessScore]:
    """Scores a model's answers.

    Args:
        answers: prompt id -> text. A missing answer is scored as an empty text.
    """
    return _run(suite, base, lambda messages, _: answers.get(prompt_id(messages), ""))


def sampling_of(settings: Mapping[str, Any], default: Sampling) -> Sampling:
    """Sampling parameters for a task's generation settings. Missing settings mean greedy decoding with the default's
    `max_tokens`."""
    until = settings.get("until") or ()
    greedy = not settings.get("do_sample", float(settings.get("temperature") or 0) > 0)
    return Sampling(
        temperature=0 if greedy else settings.get("temperature", 1.0),
        top_p=1.0 if greedy else settings.get("top_p", 1.0),
        max_tokens=settings.get("max_gen_toks") or settings.get("max_tokens") or default.max_tokens,
        stop=(until,) if isinstance(until, str) else tuple(stop for stop in until if stop),
    )


def _run(suite: HarnessSuite, base: Path, ask: Callable[[list[Message], Mapping[str, Any]], str]) -> list[HarnessScore]:
    """Runs the harness with a model that answers with `ask`."""
    check(suite)
    import lm_eval  # pyright: ignore[reportMissingImports]
    from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    class Deployed(LM):  # type: ignore[misc]
        """The model that the harness sees. Its chat template is JSON, so that the messages can be parsed again."""

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            return [ask(_messages(suite, request.args[0]), request.args[1]) for request in requests]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            raise _refused(suite, "asks for log-likelihoods; name a task that generates text")

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            raise _refused(suite, "asks for log-likelihoods; name a task that generates text")

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return json.dumps(chat_history)

        @property
        def tokenizer_name(self) -> str:
            return "messages"

    include = None if suite.include_path is None else str(base / suite.include_path)
    try:
        results = lm_eval.simple_evaluate(
            model=Deployed(),
            tasks=list(suite.tasks),
            num_fewshot=suite.num_fewshot,
            limit=suite.limit,
            apply_chat_template=True,
            log_samples=True,
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=include),
        )
    except StageError:
        raise
    except Exception as error:  # the harness, its tasks' code and the hub's client raise errors of any type
        raise _refused(suite, one_line(error) or type(error).__name__) from error
    return [scored for task, samples in results["samples"].items() for scored in _scores(suite, task, samples)]


def _scores(suite: HarnessSuite, task: str, samples: list[dict[str, Any]]) -> list[HarnessScore]:
    """One score per document, for the suite's metric and filter, or for the task's first ones."""
    if not samples:
        return []
    metric, _, filtered = (suite.metric or "").partition(",")
    metric, filtered = metric or samples[0]["metrics"][0], filtered or samples[0]["filter"]
    selected = [s for s in samples if s["filter"] == filtered and metric in s]
    if not selected:
        known = sorted({f"{m},{s['filter']}" for s in samples for m in s["metrics"]})
        raise _refused(suite, f"task {task} has no metric {metric},{filtered}; it has {', '.join(known)}")
    scores = []
    for sample in selected:
        value = sample[metric]
        if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
            raise _refused(
                suite, f"task {task}: {metric} is {value!r:.60}, not a number from 0 to 1; name another metric"
            )
        messages = _messages(suite, next(iter(sample["arguments"]))[0])
        scores.append(
            HarnessScore(prompt_id(messages), f"{task}/{sample['doc_id']}", float(value), f"{metric},{filtered}")
        )
    return scores


def _messages(suite: HarnessSuite, text: str) -> list[Message]:
    try:
        return [Message(role=m["role"], content=m["content"]) for m in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        raise _refused(suite, "prefills the model's answer, which the chat API does not support") from None


def _refused(suite: HarnessSuite, why: str) -> StageError:
    return StageError("evaluate", f"suite {suite.name}", f"lm-evaluation-harness, {', '.join(suite.tasks)}: {why}")
