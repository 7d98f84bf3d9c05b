"""Whether a data set is what its recipe says: each promise held against the run directory; who breaks it is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import StageError
from ..identities import digest
from ..recipe import DOMAINS, VERIFIED_DOMAINS, Recipe
from ..records import PROMPT, RESPONSE, SCORE
from ..selection.apply_rule import in_sft_share
from ..selection.funnel import REMOVED
from ..selection.rule import PLACES
from ..storage.parts import Parts
from ..storage.run_dir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row that breaks a promise."""

    promise: str
    row: str
    """row_id, prompt_id or file."""
    why: str


PROMISES = (
    "one source in every pair",
    "margins inside the window",
    "rewards as scored",
    "verdicts as labelled",
    "texts as sampled",
    "no prompt serves both stages, and each the stage of its share",
    "rows a prompt as the recipe allows",
    "no rejected or contaminated prompt",
    "every row traceable",
    "every prompt in one reason",
)


def check(run: RunDir, recipe: Recipe) -> list[Broken]:
    """All rows that break one of PROMISES; none where the data set conforms.

    Raises:
        StageError: the selection has not been run, or a shard can't be read.
    """
    if not run.exists("select", "pairs.parquet") or not run.exists("select", "sft.parquet"):
        raise StageError("check", run.url, "the selection has not been run; `fusechat select` runs it")
    reward = run.read_json("score", "agreement.json")["chosen"]
    sft, pairs = (run.read_table("select", f"{t}.parquet").to_pylist() for t in ("sft", "pairs"))
    wanted = {r["response_id"] for r in sft} | {r[f"{s}_id"] for r in pairs for s in ("chosen", "rejected")}
    facts = _facts(run, reward, wanted)
    prompts = {p["prompt_id"]: p for p in Parts(run, "prompts/train", PROMPT, "prompt_id").read().to_pylist()}
    broken: list[Broken] = []
    for row in sft:
        broken += _sft(row, facts, recipe)
    for row in pairs:
        broken += _pair(row, facts, recipe)
    for row, kind in [*((r, "sft") for r in sft), *((r, "pair") for r in pairs)]:
        broken += _prompt(row, kind, prompts, recipe)
    broken += _splits(sft, pairs, recipe)
    broken += _intake(run, sft + pairs, prompts)
    broken += _reasons(run, sft, pairs, prompts)
    return broken


def _facts(run: RunDir, reward: str, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """What was sampled and scored of these responses."""
    ids = pa.array(sorted(wanted), pa.string())
    facts: dict[str, dict[str, Any]] = {}
    for folder, schema in (("sample", RESPONSE), ("score", SCORE)):
        for bucket in sorted({f.split("/")[1] for f in run.files(folder) if "/bucket-" in f}):
            table = Parts(run, folder, schema, "response_id").read(int(bucket.removeprefix("bucket-")))
            for row in table.filter(pc.is_in(table.column("response_id"), ids)).to_pylist():
                if folder == "score":
                    row["reward"] = dict(row.pop("rewards")).get(reward)
                facts.setdefault(row["response_id"], {}).update(row)
    return facts


def _side(row: dict[str, Any], side: str, facts: dict[str, dict[str, Any]], recipe: Recipe) -> list[Broken]:
    """What every response in a row promises. `side` is empty in an SFT row."""
    at, text = (f"{side}_", row[side]) if side else ("", row["completion"])
    identity = row[f"{at}id" if side else "response_id"]
    fact = facts.get(identity, {})

    def bad(promise: str, why: str) -> Broken:
        return Broken(promise=promise, row=row["row_id"], why=f"{side or 'response'} {identity[:16]}: {why}")

    if "text" not in fact or "verdict" not in fact:
        return [bad("every row traceable", "is neither sampled nor scored here" if not fact else "is not scored here")]
    found = []
    for name in ("source", "revision", "template", "params", "prompt_id", "domain"):
        if row[name] != fact[name]:
            promise = "one source in every pair" if name == "source" and side else "every row traceable"
            found.append(bad(promise, f"{name} is {fact[name]!r}, the row says {row[name]!r}"))
    if row[f"{at}seed"] != fact["seed"]:
        found.append(bad("every row traceable", "another seed"))
    if [m["content"] for m in text] != [fact["text"]]:
        found.append(bad("texts as sampled", "the text is not what was sampled"))
    if row[f"{at}reward"] != fact["reward"]:
        found.append(bad("rewards as scored", f"reward {row[f'{at}reward']}, scored {fact['reward']}"))
    if (row[f"{at}correct"], row[f"{at}verdict"]) != (fact["correct"], fact["verdict"]):
        found.append(bad("verdicts as labelled", f"labelled {row[f'{at}verdict']!r}, verified {fact['verdict']!r}"))
    right = side != "rejected"
    if row["domain"] in VERIFIED_DOMAINS and fact["correct"] is not right:
        found.append(bad("verdicts as labelled", f"must be {'right' if right else 'wrong'}, is {fact['correct']}"))
    if fact["source"] not in [s.name for s in recipe.sources]:
        found.append(bad("every row traceable", f"source {fact['source']!r} is none of the recipe's"))
    return found


def _sft(row: dict[str, Any], facts: dict[str, dict[str, Any]], recipe: Recipe) -> list[Broken]:
    found = _side(row, "", facts, recipe)
    if row["row_id"] != digest("sft", row["prompt_id"], row["response_id"]):
        found.append(Broken(promise="every row traceable", row=row["row_id"], why="the identity is another row's"))
    return found


def _pair(row: dict[str, Any], facts: dict[str, dict[str, Any]], recipe: Recipe) -> list[Broken]:
    found = _side(row, "chosen", facts, recipe) + _side(row, "rejected", facts, recipe)

    def bad(promise: str, why: str) -> Broken:
        return Broken(promise=promise, row=row["row_id"], why=why)

    if row["row_id"] != digest("pair", row["prompt_id"], row["chosen_id"], row["rejected_id"]):
        found.append(bad("every row traceable", "the identity is another row's"))
    if row["chosen"] == row["rejected"]:
        found.append(bad("texts as sampled", "chosen and rejected say the same"))
    margin = round(row["chosen_reward"] - row["rejected_reward"], PLACES)
    window = recipe.select.rule(row["domain"]).margin if row["domain"] in DOMAINS else None
    if row["margin"] != margin:
        found.append(bad("rewards as scored", f"margin {row['margin']}, the rewards differ by {margin}"))
    if window is not None and not window.min <= margin <= (window.max if window.max is not None else float("inf")):
        found.append(bad("margins inside the window", f"margin {margin}, window {window.min} to {window.max}"))
    return found


def _prompt(row: dict[str, Any], kind: str, prompts: dict[str, Any], recipe: Recipe) -> list[Broken]:
    prompt = prompts.get(row["prompt_id"])
    if prompt is None or prompt["messages"] != row["prompt"] or prompt["domain"] != row["domain"]:
        why = (
            f"prompt {row['prompt_id'][:16]} {'is not in prompts/train' if prompt is None else 'reads otherwise there'}"
        )
        return [Broken(promise="every row traceable", row=row["row_id"], why=why)]
    rule = recipe.select.rule(row["domain"])
    share = in_sft_share(row["prompt_id"], rule)
    if (kind == "pair" and share) or (kind == "sft" and not share and not rule.fallback_to_sft):
        why = f"prompt {row['prompt_id'][:16]} is of the {'SFT' if share else 'DPO'} share"
        return [Broken(promise=PROMISES[5], row=row["row_id"], why=why)]
    return []


def _splits(sft: list[Any], pairs: list[Any], recipe: Recipe) -> list[Broken]:
    found = []
    both = {r["prompt_id"] for r in sft} & {r["prompt_id"] for r in pairs}
    for row in pairs:
        if row["prompt_id"] in both:
            why = f"prompt {row['prompt_id'][:16]} has SFT rows too"
            found.append(Broken(promise=PROMISES[5], row=row["row_id"], why=why))
    for rows in (sft, pairs):
        seen: dict[str, int] = {}
        ids: set[str] = set()
        for row in rows:
            seen[row["prompt_id"]] = seen.get(row["prompt_id"], 0) + 1
            most = recipe.select.rule(row["domain"]).rows
            if seen[row["prompt_id"]] > most or row["row_id"] in ids:
                why = f"row {seen[row['prompt_id']]} of its prompt; the recipe allows {most}"
                found.append(Broken(promise="rows a prompt as the recipe allows", row=row["row_id"], why=why))
            ids.add(row["row_id"])
    return found


def _intake(run: RunDir, rows: list[Any], prompts: dict[str, Any]) -> list[Broken]:
    """Rejects are named by file and line, prompts too; a held-out prompt is none to train on."""
    rejects = run.read_table("prompts", "rejects.parquet").to_pylist()
    refused = {r["id"]: r["reason"] for r in rejects}
    heldout = set(Parts(run, "prompts/heldout", PROMPT, "prompt_id").read(columns=["domain"])["prompt_id"].to_pylist())
    found = []
    for row in rows:
        prompt = prompts.get(row["prompt_id"])
        names = [row["prompt_id"]] + ([f"{prompt['file']}:{prompt['line']}"] if prompt else [])
        reason = next((refused[n] for n in names if n in refused), None)
        if row["prompt_id"] in heldout:
            reason = "held out"
        if reason is not None:
            what = "was removed as" if reason in REMOVED else "is"
            why = f"prompt {row['prompt_id'][:16]} {what} {reason}"
            found.append(Broken(promise="no rejected or contaminated prompt", row=row["row_id"], why=why))
    return found


def _reasons(run: RunDir, sft: list[Any], pairs: list[Any], prompts: dict[str, Any]) -> list[Broken]:
    outcomes = pl.from_arrow(run.read_table("select", "outcomes.parquet"))
    assert isinstance(outcomes, pl.DataFrame)
    found = []
    counts = outcomes.group_by("prompt_id").len()
    for prompt, num in counts.filter(pl.col("len") > 1).rows():
        found.append(Broken(promise="every prompt in one reason", row=prompt, why=f"has {num} reasons"))
    reasons = dict(outcomes.select("prompt_id", "reason").rows())
    for prompt in sorted(set(prompts) ^ set(reasons)):
        found.append(Broken(promise="every prompt in one reason", row=prompt, why="has no reason, or is no prompt"))
    with_rows = {**{r["prompt_id"]: "sft" for r in sft}, **{r["prompt_id"]: "pair" for r in pairs}}
    for prompt, reason in sorted(reasons.items()):
        kind = {"selected_sft": "sft", "selected_sft_fallback": "sft", "selected_pair": "pair"}.get(reason)
        if with_rows.get(prompt) != kind:
            why = f"its reason is {reason}, its row {with_rows.get(prompt, 'none')}"
            found.append(Broken(promise="every prompt in one reason", row=prompt, why=why))
    return found
