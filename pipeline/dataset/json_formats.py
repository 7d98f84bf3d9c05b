"""Export formats in JSON: LLaMA-Factory, axolotl and ms-swift."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict

from ..records import Message
from .export_parts import ExportFiles, SelectedData, jsonl, origin, usable

ROLES = {"user": "human", "assistant": "gpt"}
"""Role -> ShareGPT's name."""


class ShareGpt(TypedDict):
    """A conversation in LLaMA-Factory's ShareGPT format. The system message is not one of the turns."""

    conversations: list[dict[str, str]]
    system: str


LLAMAFACTORY_USAGE = """
```yaml
dataset_dir: FOLDER
dataset: fusechat_sft  # stage: sft
# dataset: fusechat_pairs  # stage: dpo
mask_history: true  # stage sft: the loss is on the last turn alone
```

LLaMA-Factory drops conversations whose turns don't alternate between user and assistant. `left_out.jsonl` names those
rows, if there are any.
"""


def llamafactory(data: SelectedData) -> ExportFiles:
    """ShareGPT conversations, and the dataset_info.json that defines their columns."""
    out = ExportFiles(LLAMAFACTORY_USAGE)
    sft_rows, pair_rows, out.left_out = usable(*data.rows())
    conversations = [{**_sharegpt([*r["prompt"], *r["completion"]]), **origin(r)} for r in sft_rows]
    ranked = [
        {
            **_sharegpt(r["prompt"]),
            "chosen": _sharegpt(r["chosen"])["conversations"][0],
            "rejected": _sharegpt(r["rejected"])["conversations"][0],
            **origin(r),
        }
        for r in pair_rows
    ]
    shared = {
        "formatting": "sharegpt",
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    }
    columns = {"messages": "conversations", "system": "system"}
    info = {
        "fusechat_sft": {"file_name": "fusechat_sft.json", **shared, "columns": columns},
        "fusechat_pairs": {
            "file_name": "fusechat_pairs.json",
            **shared,
            "ranking": True,
            "columns": {**columns, "chosen": "chosen", "rejected": "rejected"},
        },
    }
    out.add("sft", "train", "fusechat_sft.json", _json(conversations), len(conversations))
    out.add("pairs", "train", "fusechat_pairs.json", _json(ranked), len(ranked))
    out.files["dataset_info.json"] = _json({n: entry for n, entry in info.items() if f"{n}.json" in out.files})
    return out


AXOLOTL_USAGE = """
```yaml
# SFT
datasets:
  - path: FOLDER/sft.jsonl
    ds_type: json
    type: chat_template
    message_field_training: training  # false in earlier turns: the loss is on the last one alone

# DPO
rl: dpo
datasets:
  - path: FOLDER/pairs.jsonl
    ds_type: json
    split: train
    type: chat_template.default
```
"""


def axolotl(data: SelectedData) -> ExportFiles:
    """`messages` for `type: chat_template`; `messages`, `chosen` and `rejected` for `type: chat_template.default`."""
    out = ExportFiles(AXOLOTL_USAGE)
    sft_rows, pair_rows = data.rows()
    conversations = [{"messages": [*_marked(r["prompt"], "training"), *r["completion"]], **origin(r)} for r in sft_rows]
    ranked = [
        {"messages": r["prompt"], "chosen": r["chosen"][0], "rejected": r["rejected"][0], **origin(r)}
        for r in pair_rows
    ]
    out.add("sft", "train", "sft.jsonl", jsonl(conversations), len(conversations))
    out.add("pairs", "train", "pairs.jsonl", jsonl(ranked), len(ranked))
    return out


MS_SWIFT_USAGE = """
```shell
swift sft --dataset FOLDER/sft.jsonl ...  # `loss: false` in earlier turns: the loss is on the last one alone
swift rlhf --rlhf_type dpo --dataset FOLDER/pairs.jsonl ...
```

ms-swift joins turns of one role that follow each other, and deletes rows with a second system message.
`left_out.jsonl` names the rows with such turns, if there are any.
"""


def ms_swift(data: SelectedData) -> ExportFiles:
    """`messages`; in pairs they end with the chosen response, and `rejected_response` is the text of the other."""
    out = ExportFiles(MS_SWIFT_USAGE)
    sft_rows, pair_rows, out.left_out = usable(*data.rows())
    conversations = [{"messages": [*_marked(r["prompt"], "loss"), *r["completion"]], **origin(r)} for r in sft_rows]
    ranked = [
        {
            "messages": [*r["prompt"], *r["chosen"]],
            "rejected_response": r["rejected"][0]["content"],
            **origin(r),
        }
        for r in pair_rows
    ]
    out.add("sft", "train", "sft.jsonl", jsonl(conversations), len(conversations))
    out.add("pairs", "train", "pairs.jsonl", jsonl(ranked), len(ranked))
    return out


def _marked(prompt: Sequence[Message], key: str) -> list[dict[str, object]]:
    """The messages of a prompt, with `key: false` in those of the assistant, which are not trained on."""
    return [{**m, key: False} if m["role"] == "assistant" else {**m} for m in prompt]


def _sharegpt(messages: Sequence[Message]) -> ShareGpt:
    turns = [{"from": ROLES[m["role"]], "value": m["content"]} for m in messages if m["role"] in ROLES]
    return {"conversations": turns, "system": "\n".join(m["content"] for m in messages if m["role"] == "system")}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "replace")
