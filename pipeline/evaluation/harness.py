"""Tasks of lm-evaluation-harness: it makes the prompts and scores the answers, the run's own deployments answer.

It is no part of fusechat: a recipe that names its tasks needs it installed. Tasks that ask for log-likelihoods or run
code that a model wrote are refused: nothing here serves the former, and the latter would run outside the sandbox.
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
"""That this was written against."""


class HarnessScore(NamedTuple):
    """What the harness says of one document."""

    prompt_id: str
    id: str
    score: float | None
    why: str


def check(suite: HarnessSuite) -> None:
    """Whether the harness is there.

    Raises:
        StageError: it is not installed; says what to do.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise StageError(
            "evaluate",
            f"suite {suite.name}",
            f"kind harness needs lm-evaluation-harness, which is not installed: pip install lm_eval=={VERSION} beside "
            "fusechat, or evaluate the set's JSONL file with kind verified",
        )


def load(suite: HarnessSuite, base: Path, sampling: Sampling) -> LoadedSuite:
    """What the tasks ask.

    Args:
        sampling: where a task says nothing of its own.

    Raises:
        StageError: the harness is not installed, a task's data can't be read, or it asks for more than text.
    """
    found = LoadedSuite(suite)

    def ask(messages: list[Message], settings: Mapping[str, Any]) -> str:
        identity = prompt_id(messages)
        if identity not in found.contents:
            place = ",".join(suite.tasks), len(found.prompts) + 1
            found.prompts.append(plain_prompt(identity, "", "instruction", messages, *place))
            found.contents[identity] = messages[-1]["content"]
        found.samplings[identity] = sampling_of(settings, sampling)
        return ""

    ids = {scored.prompt_id: scored.id for scored in _run(suite, base, ask)}
    for prompt in found.prompts:
        prompt["id"] = ids.get(prompt["prompt_id"], "")
    if not found.prompts:
        raise InputError(",".join(suite.tasks), 0, f"suite {suite.name}: the harness asks nothing")
    return found


def score(suite: HarnessSuite, base: Path, answers: Mapping[str, str]) -> list[HarnessScore]:
    """What the harness says of a model's answers.

    Args:
        answers: prompt id -> text.
    """
    return _run(suite, base, lambda messages, _: answers.get(prompt_id(messages), ""))


def sampling_of(settings: Mapping[str, Any], default: Sampling) -> Sampling:
    """vLLM's parameters of a task's generation settings; what they leave open is greedy, of the default's length."""
    until = settings.get("until") or ()
    greedy = not settings.get("do_sample", float(settings.get("temperature") or 0) > 0)
    return Sampling(
        temperature=0 if greedy else settings.get("temperature", 1.0),
        top_p=1.0 if greedy else settings.get("top_p", 1.0),
        max_tokens=settings.get("max_gen_toks") or settings.get("max_tokens") or default.max_tokens,
        stop=(until,) if isinstance(until, str) else tuple(stop for stop in until if stop),
    )


def _run(suite: HarnessSuite, base: Path, ask: Callable[[list[Message], Mapping[str, Any]], str]) -> list[HarnessScore]:
    """Runs the harness with a model that answers as `ask` does."""
    check(suite)
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Deployed(LM):  # type: ignore[misc]
        """A model to the harness. Its chat template is JSON, so that messages come back as they were."""

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            return [ask(_messages(suite, request.args[0]), request.args[1]) for request in requests]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
            raise _refused(suite, "asks for log-likelihoods; name a task that generates text")

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
            return self.loglikelihood(requests)

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return json.dumps(chat_history)

        @property
        def tokenizer_name(self) -> str:
            return "messages"

    include = None if suite.include_path is None else str(base / suite.include_path)
    try:
        found = lm_eval.simple_evaluate(
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
    except Exception as error:  # the harness's own, its tasks' code and the hub's client raise what they like
        raise _refused(suite, one_line(error) or type(error).__name__) from error
    return [scored for task, samples in found["samples"].items() for scored in _scores(suite, task, samples)]


def _scores(suite: HarnessSuite, task: str, samples: list[dict[str, Any]]) -> list[HarnessScore]:
    """A score a document: of one filter and metric, which the suite names or the task has first."""
    if not samples:
        return []
    metric, _, filtered = (suite.metric or "").partition(",")
    metric, filtered = metric or samples[0]["metrics"][0], filtered or samples[0]["filter"]
    mine = [s for s in samples if s["filter"] == filtered and metric in s]
    if not mine:
        there = sorted({f"{m},{s['filter']}" for s in samples for m in s["metrics"]})
        raise _refused(suite, f"task {task} has no metric {metric},{filtered}; there are {', '.join(there)}")
    found = []
    for sample in mine:
        value = sample[metric]
        if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
            raise _refused(suite, f"task {task}: {metric} is {value!r:.60}, no number from 0 to 1; name another metric")
        messages = _messages(suite, next(iter(sample["arguments"]))[0])
        found.append(
            HarnessScore(prompt_id(messages), f"{task}/{sample['doc_id']}", float(value), f"{metric},{filtered}")
        )
    return found


def _messages(suite: HarnessSuite, text: str) -> list[Message]:
    try:
        return [Message(role=m["role"], content=m["content"]) for m in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        raise _refused(suite, "begins the model's answer itself, which a chat can't") from None


def _refused(suite: HarnessSuite, why: str) -> StageError:
    return StageError("evaluate", f"suite {suite.name}", f"lm-evaluation-harness, {', '.join(suite.tasks)}: {why}")
