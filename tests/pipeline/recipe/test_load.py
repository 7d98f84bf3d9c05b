"""Bad recipes: each mistake is one clear line that names the file and the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_recipe import HUB_MODEL, recipe_tree, source_tree

from fusechat.pipeline.errors import InputError, RecipeError, UserError
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.recipe import load as recipes

GOOD = recipe_tree(
    sources=[
        source_tree("a-1.5b", model=HUB_MODEL, samples={"math": 2}, sampling={"temperature": 0.5}),
        source_tree("b", samples={"math": 1, "code": 1}),
    ],
    rewards=[
        {"name": "judge", "kind": "judge", "source": "b", "rubric": "{prompt} {response}"},
        {"name": "likelihood", "kind": "likelihood", "source": "a-1.5b"},
    ],
)


def write(tmp_path: Path, tree: Any) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), "utf-8")
    return path


def changed(key: str, value: Any) -> dict[str, Any]:
    """The good recipe with one value set, or with one key removed (value `...`)."""
    tree = copy.deepcopy(GOOD)
    node: Any = tree
    *parents, last = [int(p) if p.isdecimal() else p for p in key.split(".")]
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return tree


def test_the_good_recipe_loads(tmp_path: Path) -> None:
    assert recipes.load(write(tmp_path, GOOD)) == Recipe.model_validate(GOOD)


@pytest.mark.parametrize(
    ("key", "value", "shown_key", "says"),
    [
        ("run_dri", "x", "run_dri", "unknown key; allowed here: cluster, dataset, dpo, evaluate, name"),
        (
            "prompts.train.0",
            {"path": "p.jsonl", "columns": {"prompt": "q"}, "domain": "law"},
            "prompts.train.0.domain",
            "Input should be 'instruction', 'math', 'code' or 'chinese'",
        ),
        ("dpo.bta", 1, "dpo.bta", "unknown key; allowed here: beta, bf16"),
        ("sft.learning_rte", 1, "sft.learning_rte", "unknown key; allowed here: bf16, choose, global_batch_size"),
        ("sources.1.samplng", {}, "sources.1.samplng", "unknown key; allowed here: chat_template, engine"),
        ("sources.0.sampling.topp", 1, "sources.0.sampling.topp", "allowed here: max_tokens, min_p"),
        ("select.math.margin.maximum", 1, "select.math.margin.maximum", "allowed here: max, min"),
        ("rewards.0.rubrik", "x", "rewards.0.rubrik", "allowed here: kind, levels, meanings, min_mass, name, orders"),
        ("score.verify.workers", 1, "score.verify.workers", "allowed here: num_workers, sandbox, timeout_s"),
        ("sources.0.samples.poetry", 1, "sources.0.samples.poetry", "'instruction', 'math', 'code' or 'chinese'"),
        ("sft.num_epochs", "many", "sft.num_epochs", "valid number"),
        ("sft.num_epochs", float("nan"), "sft.num_epochs", "finite number"),
        ("sft", 3, "sft", "valid dictionary"),
        ("sources", 3, "sources", "valid tuple"),
        ("sources", [], "sources", "is required: the rows of sft are selected from their responses"),
        ("sources.0", 7, "sources.0", "valid dictionary"),
        ("sources.0.sampling.temperature", -1, "sources.0.sampling.temperature", "greater than or equal to 0"),
        ("sources.0.samples.math", 0, "sources.0", "samples.math must be at least 1"),
        ("sources.0.samples", {}, "sources.0.samples", "at least 1"),
        ("sources.0.model", {}, "sources.0.model", "exactly one of path, hub, wheels"),
        ("sources.0.model.path", "x", "sources.0.model", "exactly one of path, hub, wheels"),
        ("sources.0.model.revision", ..., "sources.0.model", "hub needs a revision"),
        ("sources.0.placement", {"min_replicas": 2}, "sources.0.placement", "max_replicas must be at least"),
        ("name", "No Name", "name", "match pattern"),
        ("run_dir", ..., "run_dir", "is required"),
        ("dpo.beta", ..., "dpo.beta", "is required"),
        ("select.math", {"sft_fraction": 2}, "select.math.sft_fraction", "less than or equal to 1"),
        ("select.math", {"sft_fraction": 0, "margin": {"min": 1, "max": 0}}, "select.math.margin", "window is empty"),
        ("rewards.0.kind", "vibes", "rewards.0.kind", "must be one of 'likelihood', 'judge', 'armorm', 'classifier'"),
        ("rewards.0.kind", ..., "rewards.0.kind", "must be one of"),
        ("rewards.0.rubric", "{prompt}", "rewards.0", "rubric must contain {response}"),
        ("sources.1.name", "a-1.5b", "sources", "names must differ, got ['a-1.5b', 'a-1.5b']"),
        ("rewards.1.name", "judge", "rewards", "names must differ, got ['judge', 'judge']"),
        ("rewards.0.source", "nobody", "rewards", "judge uses source 'nobody', which is not one of ['a-1.5b', 'b']"),
        ("score.reward", "nobody", "score.reward", "'nobody' is not one of auto, judge, likelihood"),
        ("score.reward", {"weights": {"nobody": 1}}, "score.reward", "'nobody' is not one of judge, likelihood"),
        ("score.reward", {"weights": {"judge": 0}}, "score.reward", "weights.judge must not be 0"),
        ("score.reward", {"weights": {"judge": "much"}}, "score.reward.weights.judge", "valid number"),
        ("score.reward", {}, "score.reward", "exactly one of weights, domains"),
        ("score.reward", {"weigths": {"judge": 1}}, "score.reward.weigths", "allowed here: domains, weights"),
        ("score.reward", {"domains": {"math": "judge"}}, "score.reward", "no reward model for code, which is sampled"),
        ("rewards.0.name", "combined", "rewards", "'combined' is a reserved name"),
        ("rewards.0.orders", 2, "rewards.0", "rubric must contain {levels}"),
        ("evaluate.judge", "likelihood", "evaluate.judge", "'likelihood' is not one of the judges ['judge']"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_what_is_allowed(
    tmp_path: Path, key: str, value: Any, shown_key: str, says: str
) -> None:
    path = write(tmp_path, changed(key, value))
    with pytest.raises(RecipeError) as caught:
        recipes.load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: {shown_key}: ")
    assert says in line
    assert "\n" not in line and len(line) < 600
    assert caught.value.key == shown_key


def test_a_mistyped_key_is_named_before_the_required_key_that_it_was_meant_for(tmp_path: Path) -> None:
    tree = changed("sft", {"learning_rte": 1.0e-5, "num_epochs": 1})
    with pytest.raises(RecipeError, match=r"sft\.learning_rte: unknown key; .* learning_rate.* \(and 1 more\)"):
        recipes.load(write(tmp_path, tree))


def test_several_mistakes_name_the_first_and_count_the_others(tmp_path: Path) -> None:
    tree = changed("sft", {"learning_rate": 0, "num_epochs": 0})
    with pytest.raises(RecipeError, match=r"sft\.learning_rate: .* \(and 1 more\)"):
        recipes.load(write(tmp_path, tree))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("name: x\nsft: [1, 2\nseed: 0\n", 3, "not valid YAML"),
        ("name: x\n\tseed: 0\n", 2, "not valid YAML"),
        ("name: x\nseed: 1\nname: y\n", 3, "the key 'name' occurs twice"),
        ("sft:\n  beta: 1\n  beta: 2\n", 3, "the key 'beta' occurs twice"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: *nowhere\n", 1, "not valid YAML: found undefined alias"),
        ("a: !!python/object:os.system {}\n", 1, "not valid YAML"),
        ("", 0, "a recipe is a mapping of sections"),
        ("- 1\n", 0, "a recipe is a mapping of sections"),
        ("a: &x {b: *x}\n", 0, "an alias contains itself"),
        ("[" * 5000, 0, "nested too deeply"),
        ("a: \x01\n", 0, "not valid YAML: special characters are not allowed"),
        ("a: 2027-13-45\n", 0, "not valid YAML: a value can't be read: month must be in 1..12"),
        ("a: !!timestamp x\n", 0, "not valid YAML: a value can't be read"),
        ("a: !!bool x\n", 0, "not valid YAML: a value can't be read"),
        ("? [a]\n: 1\n", 0, "not valid YAML: a value can't be read"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        recipes.load(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        recipes.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff")
    with pytest.raises(InputError, match=r"latin\.yaml: can't be read"):
        recipes.load(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match=r"no such recipe file; the recipes that ship are .*demo.*fusechat3-qwen2\.5"):
        recipes.find("no-such-recipe")
    with pytest.raises(InputError, match="no such recipe file"):
        recipes.find(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("seed=7", lambda r: r.seed == 7),
        ("sft.learning_rate=1e-3", lambda r: r.sft.learning_rate == 1e-3),
        ("sources.1.sampling.temperature=0.25", lambda r: r.sources[1].sampling.temperature == 0.25),
        ("sources.b.samples={code: 3}", lambda r: r.sources[1].samples == {"code": 3}),
        ("sources.a-1.5b.samples.math=9", lambda r: r.sources[0].samples == {"math": 9}),
        ("sources.a-1.5b.engine.options.max_num_seqs=8", lambda r: r.sources[0].engine.options == {"max_num_seqs": 8}),
        ("prompts.train=[x.jsonl, y.jsonl]", lambda r: r.prompts.train == ("x.jsonl", "y.jsonl")),
        ("prompts.train.0=x.jsonl", lambda r: r.prompts.train == ("x.jsonl",)),
        (
            "rewards.judge.levels=[0, 1]",
            lambda r: r.rewards[0].levels == (0, 1),
        ),
        ("cluster.address=", lambda r: r.cluster.address is None),
        ("cluster.address=ray://host:1?x=y", lambda r: r.cluster.address == "ray://host:1?x=y"),
    ],
)
def test_set_changes_one_value(tmp_path: Path, change: str, read: Any) -> None:
    assert read(recipes.load(write(tmp_path, GOOD), (change,)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("seed", "--set: must have the form section.key=value (given: 'seed')"),
        ("=3", "--set: must have the form section.key=value"),
        ("sft..beta=3", "--set: must have the form section.key=value"),
        ("seed=[1", "seed: the value after = must be YAML"),
        ("dpo.beta.x=1", "dpo.beta.x: is inside a value, not in a section"),
        ("sources.c.system=keep", "sources.c.system: no such item; the items are a-1.5b, b"),
        ("sources.2.system=keep", "sources.2.system: no such item; the items are a-1.5b, b"),
        ("prompts.train.5=x", "prompts.train.5: no such item; the items are positions 0 to 0"),
        ("sources.a-1.5b.sistem=keep", "sources.0.sistem: unknown key"),
        ("seed=x", "seed: Input should be a valid integer"),
    ],
)
def test_a_change_that_cannot_be_made_names_its_key(tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        recipes.load(write(tmp_path, GOOD), (change,))
    assert says in str(caught.value)


def test_a_change_leaves_the_other_places_of_a_yaml_anchor_alone(tmp_path: Path) -> None:
    text = yaml.safe_dump(GOOD | {"sources": []}).replace(
        "sources: []",
        "sources:\n"
        "  - {name: a-1.5b, model: {path: a}, samples: {math: 1}, engine: &e {max_model_len: 512}}\n"
        "  - {name: b, model: {path: b}, samples: {math: 1}, engine: *e}",
    )
    loaded = recipes.load(write(tmp_path, text), ("sources.b.engine.max_model_len=1024",))
    assert [s.engine.max_model_len for s in loaded.sources] == [512, 1024]


def test_later_changes_win(tmp_path: Path) -> None:
    assert recipes.load(write(tmp_path, GOOD), ("seed=1", "seed=2")).seed == 2
