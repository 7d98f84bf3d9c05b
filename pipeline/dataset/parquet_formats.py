"""Export formats in Parquet: TRL, alignment-handbook and verl."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from ..identities import fraction_of
from ..recipe import VERIFIED_DOMAINS
from ..records import MESSAGES, PairRow, SftRow
from .export_parts import ORIGIN, ExportFiles, PromptReference, SelectedData, origin, parquet

TEST_FRACTION = 0.02
"""Share of the prompts in alignment-handbook's test splits. The prompt's hash decides."""

_CONVERSATION = pa.list_(MESSAGES.value_type)

TRL_USAGE = """
```python
from datasets import load_dataset

sft = load_dataset(FOLDER, "sft", split="train")  # SFTTrainer: prompt, completion
pairs = load_dataset(FOLDER, "pairs", split="train")  # DPOTrainer: prompt, chosen, rejected
```

Each of these columns is a list of messages (`role`, `content`), so TRL applies the chat template. It computes the loss
on the completion alone, and ignores the other columns.
"""


def trl(data: SelectedData) -> ExportFiles:
    """Conversational prompt + completion, and prompt + chosen + rejected, with provenance columns."""
    out = ExportFiles(TRL_USAGE)
    for name, table in (("sft", data.sft), ("pairs", data.pairs)):
        out.add(name, "train", f"{name}/train.parquet", parquet(table), len(table))
    return out


HANDBOOK_USAGE = """
```yaml
# scripts/sft.py
dataset_name: FOLDER
dataset_config: sft
dataset_train_split: train_sft
dataset_test_split: test_sft

# scripts/dpo.py
dataset_name: FOLDER
dataset_config: pairs
dataset_train_split: train_prefs
dataset_test_split: test_prefs
```

A single prompt makes no test split; set `eval_strategy: "no"` then. With `messages`, TRL computes the loss on every
token, unless `assistant_only_loss` is set.
"""


def alignment_handbook(data: SelectedData) -> ExportFiles:
    """Whole conversations as `messages`, or as `chosen` and `rejected`, in train and test splits.

    There is no column `prompt`: TRL would take the string for a prompt without chat template.
    """
    out = ExportFiles(HANDBOOK_USAGE)
    sft_rows, pair_rows = data.rows()
    scores = [("score_chosen", pa.float64()), ("score_rejected", pa.float64())]
    pair_schema = pa.schema([("chosen", _CONVERSATION), ("rejected", _CONVERSATION), *ORIGIN, *scores])
    conversations: list[dict[str, object]] = [
        {"messages": [*r["prompt"], *r["completion"]], **origin(r)} for r in sft_rows
    ]
    ranked: list[dict[str, object]] = [
        {
            "chosen": [*r["prompt"], *r["chosen"]],
            "rejected": [*r["prompt"], *r["rejected"]],
            "score_chosen": r["chosen_reward"],
            "score_rejected": r["rejected_reward"],
            **origin(r),
        }
        for r in pair_rows
    ]
    for config, stage, rows, schema in (
        ("sft", "sft", conversations, pa.schema([("messages", _CONVERSATION), *ORIGIN])),
        ("pairs", "prefs", ranked, pair_schema),
    ):
        test = _test_prompts({str(r["prompt_id"]) for r in rows})
        for split in ("train", "test"):
            selected = [r for r in rows if (r["prompt_id"] in test) == (split == "test")]
            content = parquet(pa.Table.from_pylist(selected, schema=schema))
            out.add(config, f"{split}_{stage}", f"data/{split}_{stage}.parquet", content, len(selected))
    return out


def _test_prompts(prompts: Collection[str]) -> set[str]:
    """The prompts of the test split: those with the smallest hashes. Two prompts or more fill both splits."""
    ordered = sorted(prompts, key=lambda prompt: fraction_of(prompt, "export"))
    num = sum(fraction_of(prompt, "export") < TEST_FRACTION for prompt in ordered)
    return set(ordered[: max(0, min(max(1, num), len(ordered) - 1))])


VERL_USAGE = """
```shell
# SFT: MultiTurnSFTDataset reads the column `messages`, and trains on every turn of the assistant.
torchrun -m verl.trainer.sft_trainer data.train_files=FOLDER/sft/train.parquet data.messages_key=messages ...
# RL: RLHFDataset reads the column `prompt`.
python -m verl.trainer.main_ppo data.train_files=FOLDER/rl/train.parquet data.prompt_key=prompt \\
    reward.custom_reward_function.path=my_reward.py ...
```

verl has no DPO trainer. `rl/` holds each prompt of the SFT rows and pairs once. `data_source` is `fusechat/<domain>`,
which none of verl's own reward functions knows, so a reward function of yours is required:
`compute_score(data_source, solution_str, ground_truth, extra_info)`. `reward_model.ground_truth` is the gold answer
(math) or the tests (code; `extra_info.entry_point` names the function that they call), with `style: rule`. Other
domains have `style: model` and an empty `ground_truth`.
"""

_EXTRA = [("split", pa.string()), ("index", pa.int64()), ("prompt_id", pa.string()), ("entry_point", pa.string())]
_RL = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", _CONVERSATION),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct(_EXTRA)),
    ]
)


def verl(data: SelectedData) -> ExportFiles:
    """Conversations as `messages` for SFT, and the prompts with gold answers or tests for reinforcement learning."""
    out = ExportFiles(VERL_USAGE)
    sft_rows, pair_rows = data.rows()
    messages = [{"messages": [*r["prompt"], *r["completion"]], **origin(r)} for r in sft_rows]
    table = pa.Table.from_pylist(messages, schema=pa.schema([("messages", _CONVERSATION), *ORIGIN]))
    out.add("sft", "train", "sft/train.parquet", parquet(table), len(table))
    every: list[SftRow | PairRow] = [*sft_rows, *pair_rows]
    prompts = {r["prompt_id"]: r for r in every}
    rows = [_rl_row(row, index, data.references.get(prompt)) for index, (prompt, row) in enumerate(prompts.items())]
    out.add("rl", "train", "rl/train.parquet", parquet(pa.Table.from_pylist(rows, schema=_RL)), len(rows))
    return out


def _rl_row(row: SftRow | PairRow, index: int, reference: PromptReference | None) -> dict[str, object]:
    truth = None
    if reference is not None:
        truth = reference["tests"] if row["domain"] == "code" else reference["gold"]
    by_rule = row["domain"] in VERIFIED_DOMAINS and truth is not None
    return {
        "data_source": f"fusechat/{row['domain']}",
        "prompt": row["prompt"],
        "ability": row["domain"],
        "reward_model": {"style": "rule" if by_rule else "model", "ground_truth": truth or ""},
        "extra_info": {
            "split": "train",
            "index": index,
            "prompt_id": row["prompt_id"],
            "entry_point": (reference["entry_point"] if reference is not None else None) or "",
        },
    }
