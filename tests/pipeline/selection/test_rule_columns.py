"""The rule on columns against the rule as one would say it: the same reason, rows and statuses on random tables."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import polars as pl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fusechat.pipeline.recipe import DOMAINS, VERIFIED_DOMAINS, DomainRule, Margin, Select
from fusechat.pipeline.selection.rule import REASONS, STATUSES, CandidateResponse, decide, margin, status
from fusechat.pipeline.selection.rule_columns import CANDIDATES, PROMPTS, WHITESPACE, decide_all

rewards = st.one_of(
    st.none(),
    st.sampled_from([0.0, 0.1, 0.105, 0.11, 0.12, 0.15, 0.2, 0.25, math.nan, math.inf, -math.inf, 1e308, -1e308]),
    st.floats(-1, 1),
)
responses = st.tuples(
    st.sampled_from("abc"),
    rewards,
    st.sampled_from(["x", "y", "z", "x", " x\n", "\u3000y", "\x1c \u3000", ""]),
    st.integers(1, 4),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([False, False, False, False, True]),
    st.sampled_from([True, False, None]),
)
prompts = st.lists(
    st.tuples(st.sampled_from(DOMAINS), st.booleans(), st.lists(responses, max_size=8)), min_size=1, max_size=12
)
rules = st.builds(
    DomainRule,
    sft_fraction=st.just(0.5),
    fallback_to_sft=st.sampled_from([False, False, True]),
    keep_truncated=st.booleans(),
    max_tokens=st.sampled_from([None, None, 2]),
    rows=st.sampled_from([1, 1, 2, 3]),
    prefer=st.sampled_from(["margin", "reward"]),
    margin=st.sampled_from(
        [Margin(), Margin(min=0.01, max=0.1), Margin(min=-0.3), Margin(min=0.05, max=0.05), Margin(min=0.3)]
    ),
)
selects = st.builds(Select, instruction=rules, math=rules, code=rules, chinese=rules)
seen: Counter[str] = Counter()


def _said(reward: float | None, text: str, correct: bool | None = None, **other: Any) -> tuple[Any, ...]:
    found = {"source": "a", "tokens": 1, "finished": True, "rejected": False} | other
    return found["source"], reward, text, found["tokens"], found["finished"], found["rejected"], correct


STRICT = DomainRule(sft_fraction=0.5, margin=Margin(min=0.05, max=0.2), max_tokens=2)
ONE_OF_EACH = [
    ("instruction", True, [_said(0.1, "x"), _said(0.2, "y")]),  # selected_sft, unused
    ("instruction", False, [_said(0.1, "x"), _said(0.2, "y")]),  # selected_pair
    ("code", False, [_said(0.1, "x", True)]),  # selected_sft_fallback
    ("instruction", False, [_said(0.1, "", rejected=True), _said(0.1, " ")]),  # no_response
    ("instruction", False, [_said(0.1, "x", finished=False)]),  # truncated
    ("instruction", False, [_said(0.1, "x", tokens=3)]),  # too_long
    ("math", False, [_said(0.1, "x")]),  # unverified
    ("math", False, [_said(0.1, "x", False)]),  # all_wrong
    ("math", False, [_said(None, "x", True)]),  # no_score
    ("math", False, [_said(0.1, "x", True)]),  # one_response
    ("math", False, [_said(0.1, "x", True), _said(0.2, "y", True)]),  # all_right
    ("math", False, [_said(0.1, "x", True), _said(0.2, "y", True), _said(0.2, "y", False, source="b")]),  # one_sided
    ("instruction", False, [_said(0.1, "x"), _said(0.1, "y")]),  # tie
    ("instruction", False, [_said(0.1, "x"), _said(0.11, "y")]),  # margin_too_small
    ("instruction", False, [_said(0.1, "x"), _said(0.9, "y")]),  # margin_too_large
]
"""A prompt for each reason, with responses for each status: random tables reach them nearly always, these always."""


def both(drawn: list[Any], select: Select) -> tuple[dict[int, Any], dict[int, Any]]:
    """The decisions of the slow rule and of the fast one: prompt -> reason, SFT rows, pairs and statuses."""
    asked, table, slow, prompt_of = [], [], {}, {}
    number = 0
    for prompt, (domain, share, drafts) in enumerate(drawn):
        asked.append({"prompt": prompt, "domain": domain, "sft_share": share})
        mine = []
        for source, reward, text, tokens, finished, rejected, correct in drafts:
            mine.append(
                CandidateResponse(
                    response_id=f"{number:06d}", source=source, text=text, tokens=tokens, finished=finished,
                    rejected=rejected, correct=correct, reward=reward,
                )
            )  # fmt: skip
            table.append(
                {
                    "prompt": prompt,
                    "response": number,
                    "source": "abc".index(source),
                    "text": hash(text.strip()) % 2**64,
                }
                | {"blank": text.strip(WHITESPACE) == "", "tokens": tokens, "finished": finished, "rejected": rejected}
                | {"correct": correct, "reward": reward}
            )
            prompt_of[number] = prompt
            number += 1
        verified, rule = domain in VERIFIED_DOMAINS, select.rule(domain)
        found = decide(mine, verified=verified, rule=rule, sft_share=share)
        slow[prompt] = [
            found.reason,
            [int(c.response_id) for c in found.sfts],
            [(int(c.response_id), int(r.response_id), margin(c, r)) for c, r in found.pairs],
            {int(c.response_id): status(c, found, verified=verified, rule=rule) for c in mine},
        ]
    done = decide_all(pl.DataFrame(asked, PROMPTS), pl.DataFrame(table, CANDIDATES), select)
    fast: dict[int, Any] = {r["prompt"]: [r["reason"], [], [], {}] for r in done.outcomes.to_dicts()}
    for row in done.sfts.to_dicts():
        fast[row["prompt"]][1].append(row["response"])
    for row in done.pairs.to_dicts():
        fast[row["prompt"]][2].append((row["chosen"], row["rejected"], row["margin"]))
    for row in done.statuses.to_dicts():
        fast[prompt_of[row["response"]]][3][row["response"]] = row["status"]
    return slow, fast


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=prompts, select=selects)
@example(
    drawn=ONE_OF_EACH,
    select=Select(
        instruction=STRICT, math=STRICT, code=STRICT.model_copy(update={"fallback_to_sft": True}), chinese=STRICT
    ),
)
def _equal(drawn: list[Any], select: Select) -> None:
    slow, fast = both(drawn, select)
    assert fast == slow
    seen.update(reason for reason, *_ in slow.values())
    seen.update(name for *_, statuses in slow.values() for name in statuses.values())


def test_the_rule_on_columns_decides_as_the_rule_on_one_prompt_and_every_reason_is_reached() -> None:
    seen.clear()
    _equal()
    assert set(seen) == set(REASONS) | set(STATUSES)


def test_white_space_is_what_python_strips() -> None:
    blank = [c for c in map(chr, range(0x110000)) if not c.strip()]
    assert sorted(blank) == sorted(WHITESPACE)
    assert pl.Series([WHITESPACE, WHITESPACE + "x"]).str.strip_chars(WHITESPACE).to_list() == ["", "x"]
