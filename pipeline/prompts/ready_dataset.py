"""Imports ready SFT rows and pairs: writes the tables that selection writes, and each rejected row with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice

import pyarrow as pa

from ..errors import InputError
from ..identities import IMPORTED, imported_id, imported_params, prompt_id, row_id
from ..recipe import DOMAINS, DatasetKind, DatasetTable, Domain
from ..records import (
    CANDIDATE_PAIR,
    IMPORTED_PAIR,
    IMPORTED_SFT_ROW,
    OUTCOME,
    PROMPT,
    REJECT,
    CandidatePairRow,
    Message,
    OutcomeRow,
    PairRow,
    PromptRow,
    RejectRow,
    SftRow,
    plain_prompt,
)
from ..selection.funnel import NO_SOURCE, UNKNOWN_DOMAIN, Funnel
from ..selection.rule import margin_of
from ..storage.manifest import versions
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .readers import Line
from .ready_forms import Columns, ReadyRow, form_of, read_row
from .rows import RawRow
from .unusable import UnusableError

REASONS = {
    "selected_sft": "SFT rows that were imported",
    "selected_pair": "preference pairs that were imported",
    "selected_both": "SFT rows and preference pairs that were imported",
}
"""Reason of a prompt's outcome -> explanation."""
FORM_ROWS = 100
"""Rows at the start of a table whose keys count as its columns, because JSON names none."""


@dataclass(frozen=True, slots=True)
class ReadyTable:
    """A table with its rows."""

    kind: DatasetKind
    table: DatasetTable
    rows: Iterable[Line]


@dataclass(slots=True)
class ReadyImport:
    """Imports the tables of a recipe's `dataset`.

    Args:
        recipe: name of the recipe, for the provenance of the rows.
        heldout: identities of held-out prompts. Rows with such a prompt are rejected.
        normalise: normalizes the text of a prompt's message as the intake does; None refuses it.
        domain_of: domain of a prompt whose row names none.
    """

    recipe: str
    heldout: Collection[str]
    normalise: Callable[[str], str | None]
    domain_of: Callable[[list[Message]], Domain]
    sft: dict[str, SftRow] = field(default_factory=dict)
    """Row id -> SFT row."""
    pairs: dict[str, PairRow] = field(default_factory=dict)
    prompts: dict[str, PromptRow] = field(default_factory=dict)
    rejects: list[RejectRow] = field(default_factory=list)
    sources: dict[str, set[tuple[str, DatasetKind]]] = field(default_factory=dict)
    """Prompt id -> (source, kind) of its rows."""

    def read(self, ready: ReadyTable) -> None:
        """Reads one table.

        Raises:
            InputError: its columns fit no form, or no row can be used.
        """
        name, rows = ready.table.name, iter(ready.rows)
        first = list(islice(rows, FORM_ROWS))
        names = list(dict.fromkeys(key for line in first if isinstance(line.row, dict) for key in line.row))
        before, num = len(self.rejects), 0
        try:
            if not names:
                raise ValueError(str(first[0].row) if first else "empty: there is no row")
            columns = Columns(ready.table, names)
            form = form_of(ready.kind, ready.table, columns, names)
        except ValueError as error:
            raise InputError(name, 0, f"dataset.{ready.kind}: {error}") from error
        for line in chain(first, rows):
            raw = line.row
            domain: Domain | None = None
            try:
                if isinstance(raw, UnusableError):
                    raise raw
                row = self._normalised(read_row(ready.kind, form, columns, raw))
                domain = self._domain(raw, row, columns, ready.table)
                self._add(ready, columns, line, raw, row, domain)
                num += 1
            except UnusableError as unusable:
                self._reject(f"{line.file}:{line.number}", unusable, domain)
        if not num:
            counts = Counter(r["reason"] for r in self.rejects[before:])
            shown = ", ".join(f"{n} {reason}" for reason, n in counts.items())
            raise InputError(name, 0, f"dataset.{ready.kind}: no usable row ({shown}): {self.rejects[-1]['detail']}")

    def write(self, run: RunDir, num_buckets: int) -> dict[str, int]:
        """Writes the files of the stage; returns what is counted."""
        run.remove_tables("select", "prompts")
        Parts(run, "select/prompts", PROMPT, "prompt_id").write_all(self.prompts.values(), num_buckets)
        for name, rows, schema, key in (
            ("sft", self.sft.values(), IMPORTED_SFT_ROW, "row_id"),
            ("pairs", self.pairs.values(), IMPORTED_PAIR, "row_id"),
            ("outcomes", self._outcomes(), OUTCOME, "prompt_id"),
            ("candidates", self._candidates(), CANDIDATE_PAIR, "prompt_id"),
            ("rejects", self.rejects, REJECT, "id"),
        ):
            table = pa.Table.from_pylist(list(rows), schema=schema).sort_by(key)
            run.write_table(table, "select", f"{name}.parquet")
        run.write_json(self.funnel(), "select", "funnel.json")
        rejected = Counter(row["reason"] for row in self.rejects)
        counts = {"sft": len(self.sft), "pairs": len(self.pairs), "rejected": len(self.rejects)}
        return counts | {reason.replace("_", " "): num for reason, num in sorted(rejected.items())}

    def funnel(self) -> Funnel:
        """Counts every row of the tables, by domain and by source."""
        rows: list[tuple[str, str, str]] = [("selected_sft", r["domain"], r["source"]) for r in self.sft.values()]
        rows += [("selected_pair", r["domain"], r["source"]) for r in self.pairs.values()]
        rows += [(f"rejected_{r['reason']}", r["domain"] or UNKNOWN_DOMAIN, NO_SOURCE) for r in self.rejects]
        by_domain: dict[str, Counter[str]] = {}
        by_source: dict[str, Counter[str]] = {}
        for reason, domain, source in rows:
            by_domain.setdefault(domain, Counter())[reason] += 1
            by_source.setdefault(source, Counter())[reason] += 1
        return {
            "num_prompts": len(rows),
            "reasons": dict(sorted(Counter(reason for reason, _, _ in rows).items())),
            "by_domain": {name: dict(sorted(counts.items())) for name, counts in sorted(by_domain.items())},
            "by_source": {name: dict(sorted(counts.items())) for name, counts in sorted(by_source.items())},
            "responses": {},
            "aside": {},
            "unit": "rows",
        }

    def _normalised(self, row: ReadyRow) -> ReadyRow:
        prompt = []
        for message in row.prompt:
            content = self.normalise(message["content"])
            if content is None:
                raise UnusableError("control_character", "the prompt holds a control character")
            prompt.append(Message(role=message["role"], content=content))
        return ReadyRow(prompt, row.texts)

    def _domain(self, raw: RawRow, row: ReadyRow, columns: Columns, table: DatasetTable) -> Domain:
        named = columns.value(raw, "domain")
        for known in DOMAINS:
            if named == known:
                return known
        if named is not None and "domain" in table.columns:
            raise UnusableError("unknown_domain", f"unknown domain {named!r:.60}")
        return table.domain or self.domain_of(row.prompt)

    def _add(self, ready: ReadyTable, columns: Columns, line: Line, raw: RawRow, row: ReadyRow, domain: Domain) -> None:
        prompt = prompt_id(row.prompt)
        if prompt in self.heldout:
            raise UnusableError("heldout", "the prompt is a held-out prompt")
        source, revision = (_text(columns.value(raw, "source")), _text(columns.value(raw, "revision")))
        source = source or ready.table.source or IMPORTED
        ids = [imported_id(prompt, source, text) for text in row.texts]
        common = {
            "row_id": row_id("sft" if ready.kind == "sft" else "pair", prompt, *ids),
            "prompt_id": prompt,
            "prompt": row.prompt,
            "domain": domain,
            "source": source,
            "revision": revision or IMPORTED,
            "template": IMPORTED,
            "params": json.dumps(imported_params(row.texts[0])),
            "recipe": self.recipe,
            "code": versions().get("fusechat", ""),
        }
        answers = [[Message(role="assistant", content=text)] for text in row.texts]
        if ready.kind == "sft":
            self._add_sft(common, answers, ids, columns.score(raw, "score"))
        else:
            scores = [columns.score(raw, "score_chosen"), columns.score(raw, "score_rejected")]
            self._add_pair(common, answers, ids, scores)
        self.prompts.setdefault(prompt, plain_prompt(prompt, prompt, domain, row.prompt, line.file, line.number))
        self.sources.setdefault(prompt, set()).add((source, ready.kind))

    def _add_sft(
        self, common: Mapping[str, object], answers: list[list[Message]], ids: list[str], score: float | None
    ) -> None:
        if str(common["row_id"]) in self.sft:
            raise UnusableError("duplicate", "an earlier row has the same prompt, response and source")
        row = {**common, "completion": answers[0], "response_id": ids[0], "seed": 0, "reward": score}
        self.sft[str(common["row_id"])] = SftRow(**row, correct=None, verdict=None)  # type: ignore[typeddict-item]

    def _add_pair(
        self, common: Mapping[str, object], answers: list[list[Message]], ids: list[str], scores: list[float | None]
    ) -> None:
        if str(common["row_id"]) in self.pairs:
            raise UnusableError("duplicate", "an earlier row has the same prompt, responses and source")
        row: dict[str, object] = {**common}
        for side, answer, identity, score in zip(("chosen", "rejected"), answers, ids, scores, strict=True):
            own = {"": answer, "_id": identity, "_seed": 0, "_reward": score, "_correct": None, "_verdict": None}
            row |= {f"{side}{name}": value for name, value in own.items()}
        self.pairs[str(common["row_id"])] = PairRow(**row, margin=margin_of(*scores))  # type: ignore[typeddict-item]

    def _outcomes(self) -> Iterator[OutcomeRow]:
        for prompt, rows in self.sources.items():
            kinds, domain = {kind for _, kind in rows}, self.prompts[prompt]["domain"]
            reason = "selected_both" if len(kinds) > 1 else "selected_sft" if kinds == {"sft"} else "selected_pair"
            yield {"prompt_id": prompt, "domain": domain, "reason": reason, "source": min(source for source, _ in rows)}

    def _candidates(self) -> Iterator[CandidatePairRow]:
        """The pairs with scores, for `fusechat margins`."""
        for row in self.pairs.values():
            if row["margin"] is not None and row["chosen_reward"] is not None:
                yield {
                    "prompt_id": row["prompt_id"],
                    "domain": row["domain"],
                    "source": row["source"],
                    "sft_share": False,
                    "chosen_reward": row["chosen_reward"],
                    "margin": row["margin"],
                }

    def _reject(self, place: str, unusable: UnusableError, domain: Domain | None) -> None:
        reason, detail = unusable.reason, unusable.problem[:500]
        self.rejects.append({"stage": "select", "id": place, "reason": reason, "detail": detail, "domain": domain})


def _text(value: object) -> str | None:
    if not isinstance(value, str | None):
        raise UnusableError("wrong_type", f"source and revision must be texts, got {type(value).__name__}")
    if value is not None and not value.isprintable():
        raise UnusableError("wrong_type", f"source and revision must be one line of text, got {value!r:.60}")
    return value
