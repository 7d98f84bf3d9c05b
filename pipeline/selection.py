"""Selection: the rule of pairing.py on tables, and on a run directory, one Ray task a bucket.

Each prompt becomes one SFT row, one preference pair or neither, and ends in exactly one reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fusechat.pipeline.config import VERIFIED_DOMAINS, DomainRule, Recipe, Select
from fusechat.pipeline.errors import FusechatError, StageError
from fusechat.pipeline.flow import WORKER_CPUS
from fusechat.pipeline.pairing import Candidate, decide, margin, status
from fusechat.pipeline.records import OUTCOME, PAIR, PROMPT, RESPONSE, SCORE, SFT_ROW, digest, fraction_of
from fusechat.pipeline.shards import Parts, RunDir

UNKNOWN_DOMAIN = "unknown"
"""Domain of the prompts that the intake rejected: their rows could not be read, or not trusted."""


@dataclass(slots=True)
class Selected:
    """What the prompts of one bucket yield; tables are sorted by row_id, outcomes by prompt_id."""

    sft: pa.Table
    pairs: pa.Table
    outcomes: pa.Table
    """OUTCOME: exactly one row a prompt."""
    responses: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(source, domain, status) -> responses."""


def in_sft_share(prompt_id: str, rule: DomainRule) -> bool:
    """Whether only SFT may use the prompt; hangs on the prompt alone."""
    fraction: float = fraction_of(prompt_id, "split")
    return fraction < rule.sft_fraction


def select_bucket(
    prompts: pa.Table, responses: pa.Table, scores: pa.Table, *, recipe_select: Select, reward: str
) -> Selected:
    """Applies the rule to every prompt.

    Args:
        prompts: PROMPT; prompt_id, domain and messages are read.
        responses: RESPONSE; those of other prompts are ignored.
        scores: SCORE; a response without a row has neither reward nor verdict.
        reward: name of the reward model whose scores count.
    """
    rated = {
        identity: (dict(rewards).get(reward), correct)
        for identity, rewards, correct in zip(
            *(scores.column(c).to_pylist() for c in ("response_id", "rewards", "correct")), strict=True
        )
    }
    by_prompt = _Groups(responses)
    sft, pairs, outcomes = [], [], []
    statuses: Counter[tuple[str, str, str]] = Counter()
    for prompt in prompts.select(["prompt_id", "domain", "messages"]).to_pylist():
        domain, rule = prompt["domain"], recipe_select.rule(prompt["domain"])
        verified = domain in VERIFIED_DOMAINS
        candidates = [_candidate(r, rated) for r in by_prompt.rows(prompt["prompt_id"])]
        share = in_sft_share(prompt["prompt_id"], rule)
        decision = decide(candidates, verified=verified, rule=rule, sft_share=share)
        statuses.update((c.source, domain, status(c, decision, verified=verified, rule=rule)) for c in candidates)
        if decision.sft is not None:
            sft.append(_sft_row(prompt, decision.sft))
        if decision.pair is not None:
            pairs.append(_pair_row(prompt, *decision.pair))
        used = decision.sft or (decision.pair and decision.pair[0])
        outcomes.append(
            {
                "prompt_id": prompt["prompt_id"],
                "domain": domain,
                "reason": decision.reason,
                "source": used.source if used else None,
            }
        )
    return Selected(
        sft=pa.Table.from_pylist(sft, schema=SFT_ROW).sort_by("row_id"),
        pairs=pa.Table.from_pylist(pairs, schema=PAIR).sort_by("row_id"),
        outcomes=pa.Table.from_pylist(outcomes, schema=OUTCOME).sort_by("prompt_id"),
        responses=statuses,
    )


def funnel(outcomes: pa.Table, rejects: pa.Table, num_prompts: int, responses: Counter[tuple[str, str, str]]) -> Any:
    """Where every prompt and every response went; JSON.

    Args:
        outcomes: OUTCOME of the prompts that passed the intake.
        rejects: REJECT of the intake; held-out rows are left out, they are no prompts to train on.
        num_prompts: prompts that passed the intake.

    Raises:
        StageError: the reasons do not add up to the prompts.
    """
    refused = [r for r in rejects.column("reason").to_pylist() if not r.startswith("heldout_")]
    ended = list(zip(*(outcomes.column(c).to_pylist() for c in ("domain", "reason")), strict=True))
    ended += [(UNKNOWN_DOMAIN, f"rejected_{reason}") for reason in refused]
    total = num_prompts + len(refused)
    if len(ended) != total:
        raise StageError("select", "funnel", f"{total} prompts were read, {len(ended)} have a reason")
    by_domain: dict[str, Counter[str]] = defaultdict(Counter)
    for domain, reason in ended:
        by_domain[domain][reason] += 1
    by_source: dict[str, dict[str, dict[str, int]]] = {}
    for (source, domain, name), num in responses.items():
        by_source.setdefault(source, {}).setdefault(domain, {})[name] = num
    reasons = Counter(reason for _, reason in ended)
    return {"num_prompts": total, "reasons": reasons, "by_domain": by_domain, "responses": by_source}


def run_select(
    run: RunDir, recipe: Recipe, reward: str, response_ids: set[str] | frozenset[str] | None = None
) -> dict[str, int]:
    """Stage `select`: reads prompts, samples and scores, writes select/{sft,pairs,outcomes}.parquet and funnel.json.

    Ray must be running. The result hangs on neither the number of buckets nor the order of rows.

    Args:
        reward: name of the reward model whose scores count.
        response_ids: responses of the current plan; others in the run directory are left aside. None takes all.

    Raises:
        StageError: a shard can't be read, a task failed, or the funnel does not add up.
    """
    buckets = _run_buckets(run, recipe, reward, response_ids)
    merged = Selected(
        sft=pa.concat_tables([b.sft for b in buckets]).sort_by("row_id"),
        pairs=pa.concat_tables([b.pairs for b in buckets]).sort_by("row_id"),
        outcomes=pa.concat_tables([b.outcomes for b in buckets]).sort_by("prompt_id"),
        responses=sum((b.responses for b in buckets), Counter()),
    )
    num_prompts = Parts(run, "prompts/train", PROMPT, "prompt_id").read(columns=["domain"]).num_rows
    rejects = run.read_table("prompts", "rejects.parquet", columns=["reason"])
    found = funnel(merged.outcomes, rejects, num_prompts, merged.responses)
    run.write_table(merged.sft, "select", "sft.parquet")
    run.write_table(merged.pairs, "select", "pairs.parquet")
    run.write_table(merged.outcomes, "select", "outcomes.parquet")
    run.write_json(found, "select", "funnel.json")
    num_sft, num_pairs = merged.sft.num_rows, merged.pairs.num_rows
    return {
        "prompts": found["num_prompts"],
        "sft": num_sft,
        "pairs": num_pairs,
        "unused": found["num_prompts"] - num_sft - num_pairs,
    }


def _run_buckets(run: RunDir, recipe: Recipe, reward: str, response_ids: Any) -> list[Selected]:
    import ray

    num = recipe.sample.buckets
    # Once in shared memory, not once a task: a plan may hold millions of identities.
    plan = ray.put(None if response_ids is None else pa.array(sorted(response_ids), pa.string()))
    task = ray.remote(num_cpus=WORKER_CPUS)(_select_task)
    # The tasks ask for little, so that they fit beside engines that wait for work; no more at once than there are CPUs.
    limit = max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting, results = list(range(num)), []
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < limit:
            bucket = waiting.pop(0)
            running[task.remote(run, recipe.select, bucket, reward, plan)] = bucket
        (done,), _ = ray.wait(list(running), num_returns=1)
        bucket = running.pop(done)
        try:
            result = ray.get(done)
        except ray.exceptions.RayError as error:
            raise StageError("select", f"bucket {bucket}", str(error).strip().splitlines()[-1]) from error
        if isinstance(result, str):
            raise StageError("select", f"bucket {bucket}", result)
        results.append(result)
    return results


def _select_task(run: RunDir, rules: Select, bucket: int, reward: str, plan: pa.Array | None) -> Selected | str:
    """One bucket; a failure comes back as its message, since Ray can't pickle our errors."""
    import pyarrow.compute as pc

    try:
        prompts = Parts(run, "prompts/train", PROMPT, "prompt_id").read(bucket, ["domain", "messages"])
        responses = Parts(run, "sample", RESPONSE, "response_id").read(bucket)
        if plan is not None:
            responses = responses.filter(pc.is_in(responses.column("response_id"), value_set=plan))
        scores = Parts(run, "score", SCORE, "response_id").read(bucket, ["rewards", "correct"])
        return select_bucket(prompts, responses, scores, recipe_select=rules, reward=reward)
    except FusechatError as error:
        return str(error)


class _Groups:
    """A RESPONSE table by prompt; one prompt's texts are Python objects at a time."""

    COLUMNS = ("response_id", "prompt_id", "source", "text", "finish_reason", "reject", "completion_tokens")

    def __init__(self, responses: pa.Table) -> None:
        self._table = responses.select(list(self.COLUMNS)).sort_by("prompt_id").combine_chunks()
        self._spans: dict[str, tuple[int, int]] = {}
        for i, prompt in enumerate(self._table.column("prompt_id").to_pylist()):
            start, num = self._spans.get(prompt, (i, 0))
            self._spans[prompt] = (start, num + 1)

    def rows(self, prompt_id: str) -> list[dict[str, Any]]:
        """The responses to one prompt."""
        rows: list[dict[str, Any]] = self._table.slice(*self._spans.get(prompt_id, (0, 0))).to_pylist()
        return rows


def _candidate(row: Mapping[str, Any], rated: Mapping[str, tuple[float | None, bool | None]]) -> Candidate:
    reward, correct = rated.get(row["response_id"], (None, None))
    return Candidate(
        response_id=row["response_id"],
        source=row["source"],
        text=row["text"],
        tokens=row["completion_tokens"],
        finished=row["finish_reason"] != "length",
        rejected=bool(row["reject"]),
        correct=correct,
        reward=reward,
    )


def _row(kind: str, prompt: Mapping[str, Any], *responses: Candidate) -> dict[str, Any]:
    return {
        "prompt": prompt["messages"],
        "row_id": digest(kind, prompt["prompt_id"], *(c.response_id for c in responses)),
        "prompt_id": prompt["prompt_id"],
        "domain": prompt["domain"],
        "source": responses[0].source,
    }


def _sft_row(prompt: Mapping[str, Any], best: Candidate) -> dict[str, Any]:
    row = _row("sft", prompt, best)
    return row | {"completion": _said(best), "response_id": best.response_id, "reward": best.reward}


def _pair_row(prompt: Mapping[str, Any], chosen: Candidate, rejected: Candidate) -> dict[str, Any]:
    return _row("pair", prompt, chosen, rejected) | {
        "chosen": _said(chosen),
        "rejected": _said(rejected),
        "chosen_id": chosen.response_id,
        "rejected_id": rejected.response_id,
        "chosen_reward": chosen.reward,
        "rejected_reward": rejected.reward,
        "margin": margin(chosen, rejected),
    }


def _said(candidate: Candidate) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": candidate.text}]
