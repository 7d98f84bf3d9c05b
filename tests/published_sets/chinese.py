"""alpaca_gpt4_zh and Magpie-Qwen2-Pro-200K-Chinese: Chinese prompts, some of code and of mathematics, with answers."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from .files import Row, write_card, write_parquet
from .schemas import MAGPIE_CHINESE
from .words import answer_in_chinese, asked_in_chinese, category, task_in_chinese


def write_alpaca(folder: Path, rows: int) -> None:
    def row(index: int) -> Row:
        instruction, given = task_in_chinese(index)
        return {"instruction": instruction, "input": given, "output": answer_in_chinese(given or "这个问题")}

    text = json.dumps([row(index) for index in range(rows)], ensure_ascii=False, indent=2)
    (folder / "alpaca_gpt4_data_zh.json").write_text(text, encoding="utf-8")
    features = [{"name": name, "dtype": "string"} for name in ("instruction", "input", "output")]
    write_card(folder, {"dataset_info": {"features": features}, "license": "apache-2.0"})


def write_magpie_chinese(folder: Path, rows: int) -> None:
    generator = "Qwen/Qwen2-72B-Instruct"

    def row(index: int) -> Row:
        prompt = asked_in_chinese(index)
        response = answer_in_chinese(prompt.subject)
        tagger = "meta-llama/Meta-Llama-3-8B-Instruct"
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"zh/{index}"))
        return {
            "uuid": name,
            "model": generator,
            "gen_input_configs": {
                "temperature": 1.0,
                "top_p": 1.0,
                "input_generator": generator,
                "seed": None,
                "pre_query_template": "<|im_start|>user\n",
            },
            "instruction": prompt.text,
            "response": response,
            "conversations": [{"from": "human", "value": prompt.text}, {"from": "gpt", "value": response}],
            "task_category": category(prompt.topic, index),
            "other_task_category": ["Others"],
            **dict.fromkeys(("task_category_generator", "difficulty_generator", "quality_generator"), tagger),
            "difficulty": ["easy", "medium", "hard"][index % 3],
            "intent": "The user asks a question.",
            "knowledge": "To answer, one needs to know the place.",
            "input_quality": "poor" if index % 10 == 9 else "good",
            "quality_explanation": "The question is clear.",
            "llama_guard_2": "safe",
            "reward_model": "sfairXC/FsfairX-LLaMA3-RM-v0.1",
            "instruct_reward": -2.5 + index % 4,
            "min_neighbor_distance": 0.25,
            "repeat_count": 0,
            "min_similar_uuid": None if index % 2 else name,
            "instruction_length": len(prompt.text),
            "response_length": len(response),
            "language": "ZH",
        }

    write_parquet(folder, {"train": ([row(index) for index in range(rows)], 2)}, MAGPIE_CHINESE)
