"""Selection: the rule compared with a slow second implementation, its edge cases, and the stage itself."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_recipe import make_recipe, source_tree
from example_rows import prompt_row, response_row, score_row
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.identities import prompt_id
from fusechat.pipeline.recipe import Domain, DomainRule, Margin, Recipe, Select
from fusechat.pipeline.records import PROMPT, REJECT, RESPONSE, SCORE
from fusechat.pipeline.selection import apply_rule
from fusechat.pipeline.selection.apply_rule import Selected, select_bucket
from fusechat.pipeline.selection.rule import REASONS, STATUSES, CandidateResponse, Decision, decide, margin, status
from fusechat.pipeline.storage.manifest import Manifest
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

WINDOW = DomainRule(sft_fraction=0, margin=Margin(min=0.01, max=0.1))
OPEN = DomainRule(sft_fraction=0)
KEEP = DomainRule(sft_fraction=0, keep_truncated=True)


def one(reward: float | None, *, source: str = "a", text: str | None = None, **rest: Any) -> CandidateResponse:
    one.num += 1  # type: ignore[attr-defined]
    identity = rest.pop("response_id", f"r{one.num:03d}")  # type: ignore[attr-defined]
    rest.setdefault("tokens", 10)
    return CandidateResponse(
        response_id=identity, source=source, text=text or f"text {identity}", reward=reward, **rest
    )


one.num = 0  # type: ignore[attr-defined]


def instruction(*candidates: CandidateResponse, rule: DomainRule = WINDOW, sft_share: bool = False) -> Decision:
    return decide(candidates, verified=False, rule=rule, sft_share=sft_share)


def verified(*candidates: CandidateResponse, rule: DomainRule = WINDOW, sft_share: bool = False) -> Decision:
    return decide(candidates, verified=True, rule=rule, sft_share=sft_share)


# A second implementation of the rule: of every allowed pair of responses, take the one that no other beats.


def restated(
    candidates: list[CandidateResponse], *, verified: bool, rule: DomainRule, sft_share: bool
) -> tuple[str, Any]:
    """Returns the kind of row and the identities in it, but no reason if there is no row."""

    def usable(c: CandidateResponse) -> bool:
        has_text = not c.rejected and c.text.strip() != ""
        whole = c.finished or rule.keep_truncated
        return has_text and whole and c.reward is not None and not math.isnan(c.reward) and not math.isinf(c.reward)

    def beats(x: CandidateResponse, y: CandidateResponse, sign: int) -> bool:
        """Whether x ranks before y: by higher (sign 1) or lower (sign -1) reward, then shorter, then by identity."""
        assert x.reward is not None and y.reward is not None
        if x.reward != y.reward:
            return (x.reward - y.reward) * sign > 0
        if x.tokens != y.tokens:
            return x.tokens < y.tokens
        return x.response_id < y.response_id

    pool = [c for c in candidates if usable(c)]
    for_sft = [c for c in pool if not verified or c.correct is True]
    if not for_sft:
        return "none", None
    champion = next(c for c in for_sft if all(c is o or beats(c, o, 1) for o in for_sft))
    if sft_share:
        return "sft", champion.response_id
    per_source = []
    for source in {c.source for c in pool}:
        allowed = [
            (w, lo)
            for w, lo in permutations([c for c in pool if c.source == source], 2)
            if w.text.split() != lo.text.split() and (not verified or (w.correct is True and lo.correct is False))
        ]
        for pair in allowed:
            others = [o for o in allowed if o is not pair]
            if all(beats(pair[0], o[0], 1) or (pair[0] is o[0] and beats(pair[1], o[1], -1)) for o in others):
                per_source.append(pair)
    fitting = []
    for w, lo in per_source:
        distance = round(w.reward - lo.reward, 12)  # type: ignore[operator]
        upper = math.inf if rule.margin.max is None else rule.margin.max
        if rule.margin.min <= distance <= upper and (verified or distance > 0):
            fitting.append((distance, w.source, w.response_id, lo.response_id))
    if fitting:
        largest = max(f[0] for f in fitting)
        first = min(f[1] for f in fitting if f[0] == largest)
        return "pair", next(f[2:] for f in fitting if f[1] == first)
    return ("sft", champion.response_id) if rule.fallback_to_sft else ("none", None)


rewards = st.one_of(
    st.none(), st.sampled_from([0.0, 0.1, 0.11, 0.12, 0.15, 0.2, 0.25, math.nan, math.inf, -math.inf]), st.floats(-1, 1)
)
drafts = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        rewards,
        st.sampled_from(["x", "y", " x", "y\n", "  ", ""]),
        st.integers(1, 3),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([True, False, None]),
    ),
    max_size=9,
)
rules = st.builds(
    DomainRule,
    sft_fraction=st.just(0.5),
    fallback_to_sft=st.booleans(),
    keep_truncated=st.booleans(),
    margin=st.sampled_from([Margin(), Margin(min=0.01, max=0.1), Margin(min=-0.3), Margin(min=0.05, max=0.05)]),
)


def build(draft: list[Any]) -> list[CandidateResponse]:
    return [
        CandidateResponse(
            response_id=f"r{i}",
            source=source,
            text=text,
            tokens=tokens,
            finished=finished,
            rejected=rejected,
            correct=correct,
            reward=reward,
        )
        for i, (source, reward, text, tokens, finished, rejected, correct) in enumerate(draft)
    ]


def selected(decision: Decision) -> tuple[str, Any]:
    if decision.sft is not None:
        return "sft", decision.sft.response_id
    if decision.pair is not None:
        return "pair", (decision.pair[0].response_id, decision.pair[1].response_id)
    return "none", None


@settings(max_examples=600, deadline=None)
@given(draft=drafts, rule=rules, is_verified=st.booleans(), sft_share=st.booleans(), shuffle=st.randoms())
def test_the_rule_selects_what_its_slow_restatement_selects(
    draft: list[Any], rule: DomainRule, is_verified: bool, sft_share: bool, shuffle: random.Random
) -> None:
    candidates = build(draft)
    decision = decide(candidates, verified=is_verified, rule=rule, sft_share=sft_share)
    assert selected(decision) == restated(candidates, verified=is_verified, rule=rule, sft_share=sft_share)
    assert decision.reason in REASONS
    assert (selected(decision)[0] == "none") == (not decision.reason.startswith("selected_"))
    shuffled = candidates.copy()
    shuffle.shuffle(shuffled)
    assert decide(shuffled, verified=is_verified, rule=rule, sft_share=sft_share) == decision
    statuses = Counter(status(c, decision, verified=is_verified, rule=rule) for c in candidates)
    assert set(statuses) <= set(STATUSES)
    assert statuses["sft"] + 2 * statuses["chosen"] == {"sft": 1, "pair": 2, "none": 0}[selected(decision)[0]]
    assert statuses["chosen"] == statuses["dispreferred"]


@settings(max_examples=300, deadline=None)
@given(draft=drafts, rule=rules, is_verified=st.booleans())
def test_a_pair_has_one_source_two_texts_and_a_margin_inside_the_window(
    draft: list[Any], rule: DomainRule, is_verified: bool
) -> None:
    decision = decide(build(draft), verified=is_verified, rule=rule, sft_share=False)
    if decision.pair is not None:
        chosen, rejected = decision.pair
        assert chosen.source == rejected.source
        assert chosen.text.split() != rejected.text.split()
        assert rule.margin.min <= margin(chosen, rejected) <= (rule.margin.max or math.inf)
        if is_verified:
            assert (chosen.correct, rejected.correct) == (True, False)


@pytest.mark.parametrize(
    ("reason", "decision"),
    [
        ("no_response", instruction()),
        ("no_response", instruction(one(0.1, rejected=True), one(0.2, text="   "))),
        ("truncated", instruction(one(0.1, finished=False), one(0.2, finished=False))),
        ("unverified", verified(one(0.1), one(0.2))),
        ("all_wrong", verified(one(None, correct=False), one(None, correct=False))),
        ("all_wrong", verified(one(0.2, correct=False), one(0.1, correct=None))),
        ("no_score", instruction(one(None), one(math.nan), one(math.inf))),
        ("no_score", verified(one(None, correct=True), one(0.1, correct=False))),
        ("no_score", verified(one(0.1, correct=True), one(-math.inf, correct=False))),
        ("no_score", instruction(one(0.1), one(None))),
        ("one_response", instruction(one(0.1))),
        ("one_response", instruction(one(0.1), one(0.2, source="b"))),
        ("one_response", verified(one(0.1, correct=True))),
        ("all_right", verified(one(0.1, correct=True), one(0.2, correct=True))),
        ("all_right", verified(one(0.1, correct=True), one(0.2, correct=None))),
        ("one_sided", verified(*(one(0.1 + i / 50, source=s, correct=s == "a") for i in range(2) for s in "ab"))),
        ("tie", instruction(one(0.1), one(0.1), one(0.1))),
        ("tie", instruction(one(0.1), one(0.1), rule=OPEN)),
        ("tie", instruction(one(0.1, text="same"), one(0.2, text="same"))),
        ("tie", verified(one(0.2, text="same", correct=True), one(0.1, text="same", correct=False))),
        ("margin_too_small", instruction(one(0.1), one(0.105))),
        ("margin_too_large", instruction(one(0.1), one(0.3))),
        ("margin_too_large", instruction(one(0.1), one(0.3), one(0.1, source="b"), one(0.105, source="b"))),
        ("margin_too_small", verified(one(0.1, correct=True), one(0.2, correct=False), rule=OPEN)),
        ("selected_pair", verified(one(0.1, correct=True), one(0.1, correct=False), rule=OPEN)),
        ("selected_pair", instruction(one(0.11), one(0.12))),
        ("selected_pair", instruction(one(0.1), one(0.2))),
        ("selected_pair", instruction(one(0.1), one(9.9), rule=OPEN)),
        ("selected_sft", instruction(one(0.1), one(0.15), sft_share=True)),
        ("selected_sft", verified(one(0.1, correct=True), sft_share=True)),
    ],
)
def test_every_prompt_ends_in_its_reason(reason: str, decision: Decision) -> None:
    assert decision.reason == reason


def test_a_prompt_without_a_pair_becomes_an_sft_row_where_the_rule_says_so() -> None:
    rule = DomainRule(sft_fraction=0, fallback_to_sft=True, margin=WINDOW.margin)
    right = [one(0.1, correct=True), one(0.3, correct=True, source="b")]
    assert verified(*right, rule=rule) == Decision("selected_sft_fallback", sfts=(right[1],))
    assert verified(one(0.1, correct=False), one(0.2, correct=False), rule=rule).reason == "all_wrong"


def test_the_best_response_of_all_sources_is_taken_and_ties_go_to_the_shorter_then_to_the_identity() -> None:
    long, short, other = (
        one(0.2, tokens=9, response_id="x1"),
        one(0.2, tokens=5, source="b", response_id="x3"),
        one(0.2, tokens=5, source="c", response_id="x2"),
    )
    assert instruction(long, short, one(0.1), sft_share=True).sft == short
    assert instruction(long, short, other, sft_share=True).sft == other


def test_a_wrong_response_with_a_high_reward_is_never_the_sft_row() -> None:
    right = one(0.05, correct=True)
    assert verified(one(0.9, correct=False), right, one(0.8, correct=None), sft_share=True).sft == right


def test_the_source_with_the_largest_margin_inside_the_window_wins_then_its_name() -> None:
    wide = [one(0.0, source="a"), one(0.5, source="a")]
    near = [one(0.1, source="b"), one(0.15, source="b")]
    best = [one(0.1, source="d"), one(0.19, source="d")]
    same = [one(0.2, source="c"), one(0.29, source="c")]
    assert instruction(*wide, *near, *best).pair == (best[1], best[0])
    assert instruction(*wide, *near, *best, *same).pair == (same[1], same[0])


def test_a_truncated_response_may_be_either_side_only_where_the_rule_keeps_it() -> None:
    right, cut = one(0.2, correct=True), one(0.1, correct=False, finished=False)
    assert verified(right, cut, rule=OPEN).reason == "one_response"
    assert verified(right, cut, rule=KEEP).pair == (right, cut)
    assert verified(one(0.3, correct=True, finished=False), cut, rule=KEEP, sft_share=True).reason == "selected_sft"


# Tables and the run directory.

RULES = Select(
    instruction=DomainRule(sft_fraction=0.4, margin=Margin(min=0.01, max=0.1)),
    math=DomainRule(sft_fraction=0, fallback_to_sft=True, margin=Margin(min=0.01, max=0.1)),
)
DOMAIN_CYCLE: tuple[Domain, ...] = ("instruction", "math", "code", "chinese")


def tables(num: int, seed: int = 0) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Prompts of all domains, four responses each from two sources, some cut, rejected or without a score."""
    draw = random.Random(seed)
    prompts: list[dict[str, Any]] = []
    responses: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for i in range(num):
        prompt = prompt_row(i, f"question {i}", DOMAIN_CYCLE[i % 4])
        prompts.append(prompt)
        for j in range(4):
            rejected, cut = draw.random() < 0.1, draw.random() < 0.1
            response = response_row(
                prompt,
                f"{prompt['prompt_id'][:12]}-{j}",
                source="ab"[j % 2],
                sample_index=j // 2,
                seed=j,
                text="" if rejected else f"answer {draw.randrange(99)}",
                finish_reason="rejected" if rejected else "length" if cut else "stop",
                reject="too_long" if rejected else "",
                completion_tokens=draw.randint(1, 4),
            )
            responses.append(response)
            score = draw.choice([None, math.nan, 0.1, 0.12, 0.15, draw.random() / 5])
            correct = draw.choice([True, False, None]) if prompt["domain"] in ("math", "code") else None
            scores.append(score_row(response, {"rm": score, "other": -score if score else None}, correct))
    return (
        pa.Table.from_pylist(prompts, schema=PROMPT),
        pa.Table.from_pylist(responses, schema=RESPONSE),
        pa.Table.from_pylist(scores, schema=SCORE),
    )


def test_select_bucket_gives_each_prompt_one_outcome_and_each_response_one_status() -> None:
    prompts, responses, scores = tables(120)
    found = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="rm")
    assert sorted(found.outcomes["prompt_id"].to_pylist()) == sorted(prompts["prompt_id"].to_pylist())
    reasons = Counter(found.outcomes["reason"].to_pylist())
    assert reasons["selected_pair"] == found.pairs.num_rows > 0
    assert reasons["selected_sft"] + reasons["selected_sft_fallback"] == found.sft.num_rows > 0
    assert sum(found.responses.values()) == responses.num_rows
    assert not set(found.sft["prompt_id"].to_pylist()) & set(found.pairs["prompt_id"].to_pylist())
    texts = dict(zip(responses["response_id"].to_pylist(), responses["text"].to_pylist(), strict=True))
    for row in found.pairs.to_pylist():
        assert row["chosen"] == [{"role": "assistant", "content": texts[row["chosen_id"]]}]
        assert row["rejected"] == [{"role": "assistant", "content": texts[row["rejected_id"]]}]
        assert row["margin"] == pytest.approx(row["chosen_reward"] - row["rejected_reward"])
    for row in found.sft.to_pylist():
        assert row["completion"] == [{"role": "assistant", "content": texts[row["response_id"]]}]


def test_the_named_reward_model_counts_and_no_other() -> None:
    prompts, responses, scores = tables(80)
    by_rm = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="rm")
    by_other = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="other")
    assert by_rm.sft["response_id"].to_pylist() != by_other.sft["response_id"].to_pylist()
    none = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="missing")
    assert none.sft.num_rows == none.pairs.num_rows == 0


def test_a_prompt_without_responses_or_a_response_without_scores_has_its_reason() -> None:
    prompts, responses, scores = tables(4)
    bare = select_bucket(prompts, responses.slice(0, 0), scores, recipe_select=RULES, reward="rm")
    assert set(bare.outcomes["reason"].to_pylist()) == {"no_response"}
    whole = responses.filter(pa.array([r == "stop" for r in responses["finish_reason"].to_pylist()]))
    unscored = select_bucket(prompts, whole, scores.slice(0, 0), recipe_select=RULES, reward="rm")
    assert set(unscored.outcomes["reason"].to_pylist()) <= {"no_score", "unverified"}


def plain(selected: Selected) -> list[Any]:
    return [t.to_pylist() for t in (selected.sft, selected.pairs, selected.outcomes)] + [selected.responses]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_row_order_does_not_matter(seed: int) -> None:
    prompts, responses, scores = tables(40)
    shuffle = random.Random(seed)

    def mixed(table: pa.Table) -> pa.Table:
        return table.take(shuffle.sample(range(table.num_rows), table.num_rows))

    expected = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="rm")
    found = select_bucket(mixed(prompts), mixed(responses), mixed(scores), recipe_select=RULES, reward="rm")
    assert plain(found) == plain(expected)


def test_the_sft_share_is_the_fraction_and_hangs_on_the_prompt_alone() -> None:
    rule = DomainRule(sft_fraction=0.4)
    ids = [prompt_id([{"role": "user", "content": str(i)}]) for i in range(5000)]
    shares = [apply_rule.in_sft_share(i, rule) for i in ids]
    assert 0.38 < sum(shares) / len(shares) < 0.42
    assert not any(apply_rule.in_sft_share(i, DomainRule(sft_fraction=0)) for i in ids)
    assert all(apply_rule.in_sft_share(i, DomainRule(sft_fraction=1)) for i in ids)


def rejects(*reasons: str) -> pa.Table:
    rows = [{"stage": "prompts", "id": f"p.jsonl:{i}", "reason": r, "detail": ""} for i, r in enumerate(reasons)]
    return pa.Table.from_pylist(rows, schema=REJECT)


def test_the_funnel_adds_up_with_the_rejects_of_the_intake() -> None:
    prompts, responses, scores = tables(40)
    found = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="rm")
    intake = rejects("duplicate", "empty", "duplicate", "heldout_duplicate")
    funnel = apply_rule.funnel(found.outcomes, intake, 40, found.responses)
    assert funnel["num_prompts"] == 43 == sum(funnel["reasons"].values())
    assert (funnel["reasons"]["duplicate"], funnel["reasons"]["rejected_empty"]) == (2, 1)
    assert sum(n for source in funnel["by_source"].values() for n in source.values()) == 43
    assert sum(n for domain in funnel["by_domain"].values() for n in domain.values()) == 43
    assert sum(n for s in funnel["responses"].values() for d in s.values() for n in d.values()) == 160


def test_a_funnel_that_does_not_add_up_is_an_error() -> None:
    prompts, responses, scores = tables(8)
    found = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="rm")
    with pytest.raises(StageError, match="9 prompts were read, 8 have a reason"):
        apply_rule.funnel(found.outcomes, rejects(), 9, found.responses)


def make_run(folder: Path, buckets: int, num: int = 60) -> tuple[RunDir, Recipe]:
    prompts, responses, scores = tables(num)
    run = RunDir(str(folder))
    Parts(run, "prompts/train", PROMPT, "prompt_id").write_all(prompts.to_pylist(), buckets)
    run.write_table(rejects("duplicate"), "prompts", "rejects.parquet")
    rows = responses.to_pylist()
    # Responses of an earlier plan, which have no scores.
    rows += [r | {"response_id": r["response_id"] + "-old", "text": "old"} for r in rows[::3]]
    Parts(run, "sample", RESPONSE, "response_id").write_all(rows, buckets)
    Parts(run, "score", SCORE, "response_id").write_all(scores.to_pylist(), buckets)
    recipe = make_recipe(
        name="t",
        run_dir=str(folder),
        sources=[source_tree("a"), source_tree("b")],
        rewards=[{"name": "rm", "kind": "likelihood", "source": "a"}],
        sample={"buckets": buckets},
        select=RULES.model_dump(),
    )
    return run, recipe


def test_the_stage_writes_the_same_bytes_for_any_number_of_buckets_and_workers(tmp_path: Path) -> None:
    written = []
    for buckets, workers in ((1, 1), (5, 1), (16, 2), (16, 4)):
        run, recipe = make_run(tmp_path / f"{buckets}-{workers}", buckets)
        counts = apply_rule.run_select(run, recipe, "rm", workers)
        assert counts["prompts"] == 61 == counts["sft"] + counts["pairs"] + counts["unused"]
        names = ("sft.parquet", "pairs.parquet", "outcomes.parquet", "candidates.parquet", "funnel.json")
        written.append([run.file_digest("select", n) for n in names])
    assert all(w == written[0] for w in written)
    expected = select_bucket(*tables(60), recipe_select=RULES, reward="rm", recipe="t")
    assert [run.read_table("select", n).to_pylist() for n in names[:3]] == plain(expected)[:3]
    assert run.read_json("select", "funnel.json")["aside"] == {"not_scored": 80}


def test_a_row_says_where_it_comes_from() -> None:
    prompts, responses, scores = tables(60)
    found = select_bucket(prompts, responses, scores, recipe_select=RULES, reward="rm", recipe="mine")
    seeds = dict(zip(responses["response_id"].to_pylist(), responses["seed"].to_pylist(), strict=True))
    for row in found.pairs.to_pylist():
        assert (row["revision"], row["template"], row["params"], row["recipe"]) == ("r", "t", "{}", "mine")
        assert (row["chosen_seed"], row["rejected_seed"]) == (seeds[row["chosen_id"]], seeds[row["rejected_id"]])
        if row["domain"] in ("math", "code"):
            assert (row["chosen_correct"], row["rejected_correct"], row["chosen_verdict"]) == (True, False, "v")
    assert all(row["seed"] == seeds[row["response_id"]] and row["code"] for row in found.sft.to_pylist())


def test_more_rows_a_prompt_by_setting() -> None:
    prompts, responses, scores = tables(200)
    rule = DomainRule(sft_fraction=0.5, rows=3)
    many = select_bucket(prompts, responses, scores, recipe_select=Select(instruction=rule, math=rule), reward="rm")
    for table in (many.sft, many.pairs):
        assert max(Counter(table["prompt_id"].to_pylist()).values()) > 1
    per_prompt = Counter((r["prompt_id"], r["source"]) for r in many.pairs.to_pylist())
    assert set(per_prompt.values()) == {1}
    assert not set(many.sft["prompt_id"].to_pylist()) & set(many.pairs["prompt_id"].to_pylist())


@pytest.mark.parametrize("domain", ["instruction", "math"])
def test_texts_that_differ_in_white_space_at_their_ends_are_one_text(domain: Domain) -> None:
    prompt = prompt_row(0, "question", domain)
    drafts = [("Red.", 0.2, True), ("\nRed.", 0.15, False), ("Red. \n", 0.1, False), ("Red.\u3000", 0.19, True)]
    responses = [response_row(prompt, f"r{i}", text=text) for i, (text, _, _) in enumerate(drafts)]
    scores = [
        score_row(r, {"rm": reward}, correct if domain == "math" else None)
        for r, (_, reward, correct) in zip(responses, drafts, strict=True)
    ]

    def select(rule: DomainRule, num: int) -> Selected:
        tables = zip(([prompt], responses[:num], scores[:num]), (PROMPT, RESPONSE, SCORE), strict=True)
        rows = (pa.Table.from_pylist(rows, schema=schema) for rows, schema in tables)
        return select_bucket(*rows, recipe_select=Select.model_validate({domain: rule}), reward="rm")

    found = select(OPEN, 4)
    assert not found.pairs.num_rows
    assert found.outcomes["reason"].to_pylist() == ["tie"]
    found = select(DomainRule(sft_fraction=1, rows=3), 4)
    assert found.sft["response_id"].to_pylist() == ["r0"]
    responses[1]["text"] = "Red.\nOr blue."
    assert select(OPEN, 4).pairs["rejected_id"].to_pylist() == ["r1"]


# Bad input: a clear error or a counted reason, never a row without notice.


@pytest.mark.parametrize("folder", ["prompts/train", "sample", "score"])
def test_a_shard_that_is_half_written_stops_the_stage(tmp_path: Path, folder: str) -> None:
    run, recipe = make_run(tmp_path, 5)
    part = Path(run.path(run.files(*folder.split("/"))[0]))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(StageError, match=r"bucket \d.*can't be read"):
        apply_rule.run_select(run, recipe, "rm")


def test_a_shard_that_is_missing_stops_the_stage(tmp_path: Path) -> None:
    run, recipe = make_run(tmp_path, 5)
    manifest = Manifest(stage="score", config="c", inputs={}, data="d", counts={"responses": 240})
    run.write_manifest(manifest)
    apply_rule.run_select(run, recipe, "rm")
    part = Path(run.path(run.files("sample")[0]))
    content = part.read_bytes()
    part.unlink()
    with pytest.raises(StageError, match=r"\d+ scored responses have no row in sample/; run `fusechat sample`"):
        apply_rule.run_select(run, recipe, "rm")
    part.write_bytes(content)
    Path(run.path(run.files("score")[0])).unlink()
    with pytest.raises(StageError, match=r"a shard is missing: only \d+ of 240 scored responses exist"):
        apply_rule.run_select(run, recipe, "rm")


def test_two_rows_with_one_identity_count_once_and_are_counted(tmp_path: Path) -> None:
    run, recipe = make_run(tmp_path, 1)
    clean = apply_rule.run_select(run, recipe, "rm")
    rows = tables(60)[1].to_pylist()
    Parts(run, "sample", RESPONSE, "response_id").write(0, rows[:7])
    assert apply_rule.run_select(run, recipe, "rm") == clean
    assert run.read_json("select", "funnel.json")["aside"]["repeated"] == 7


def test_a_source_that_left_the_recipe_yields_no_row_and_is_counted(tmp_path: Path) -> None:
    run, recipe = make_run(tmp_path, 2)
    left = recipe.model_copy(update={"sources": recipe.sources[:1]})
    apply_rule.run_select(run, left, "rm")
    found = run.read_json("select", "funnel.json")
    assert found["aside"]["source_not_in_recipe"] == 120
    assert set(found["by_source"]) == {"a", "none"}
    assert set(run.read_table("select", "sft.parquet")["source"].to_pylist()) == {"a"}


@pytest.mark.parametrize(
    ("score", "reason"),
    [(math.nan, "no_score"), (math.inf, "no_score"), (-math.inf, "no_score"), (None, "no_score"), (0.1, "tie")],
    ids=["nan", "infinite", "minus infinite", "missing", "all equal"],
)
def test_scores_that_say_nothing_have_their_reason(score: float | None, reason: str) -> None:
    prompts, responses, _ = tables(80)
    rows = [r | {"finish_reason": "stop", "reject": "", "text": r["response_id"]} for r in responses.to_pylist()]
    rule = DomainRule(sft_fraction=0)
    scores = [score_row(r, {"rm": score}) for r in rows]
    found = select_bucket(
        prompts,
        pa.Table.from_pylist(rows, schema=RESPONSE),
        pa.Table.from_pylist(scores, schema=SCORE),
        recipe_select=Select(instruction=rule, chinese=rule),
        reward="rm",
    )
    assert Counter(found.outcomes["reason"].to_pylist()) == {reason: 40, "unverified": 40}


def test_one_sample_of_each_source_pairs_with_nothing() -> None:
    prompts, responses, scores = tables(40)
    rows = [
        r | {"finish_reason": "stop", "reject": "", "text": "x"} for r in responses.to_pylist() if not r["sample_index"]
    ]
    rule = DomainRule(sft_fraction=0)
    found = select_bucket(
        prompts,
        pa.Table.from_pylist(rows, schema=RESPONSE),
        scores,
        recipe_select=Select(instruction=rule, math=rule, code=rule, chinese=rule),
        reward="rm",
    )
    assert found.pairs.num_rows == 0
    assert set(found.outcomes["reason"].to_pylist()) <= {"one_response", "no_score", "all_wrong", "unverified"}
