"""Schemas of the published sets that are Parquet files."""

from __future__ import annotations

import pyarrow as pa

_STRING, _STRINGS = pa.string(), pa.list_(pa.string())
_MESSAGES = pa.list_(pa.struct({"content": _STRING, "role": _STRING}))
_TURNS = pa.list_(pa.struct({"from": _STRING, "value": _STRING}))

MAGPIE_PRO = pa.schema(
    {
        "uuid": _STRING,
        "instruction": _STRING,
        "gen_input_configs": pa.struct({"temperature": pa.float64(), "top_p": pa.float64()}),
        **dict.fromkeys(("intent", "knowledge", "difficulty", "input_quality", "quality_explanation"), _STRING),
        "task_category": _STRING,
        "input_length": pa.int64(),
        "responses": _STRINGS,
        "gen_response_configs": pa.struct(
            {
                "prompt": _STRING,
                **dict.fromkeys(("temperature", "top_p", "repetition_penalty"), pa.float64()),
                "max_tokens": pa.int64(),
                "stop_tokens": _STRINGS,
                "output_generator": _STRING,
                "engine": _STRING,
            }
        ),
        "rewards_armorm": pa.list_(pa.struct({"score": pa.float64()})),
        "chosen": _MESSAGES,
        "rejected": _MESSAGES,
    }
)
OPEN_MATH = pa.schema(dict.fromkeys(("problem", "generated_solution", "expected_answer", "problem_source"), _STRING))
SELF_OSS = pa.schema(
    {
        "fingerprint": pa.null(),
        **dict.fromkeys(("sha1", "seed", "response"), _STRING),
        "concepts": _STRINGS,
        "prompt": _STRING,
        "instruction": _STRING,
        "id": pa.int64(),
    }
)
MAGPIE_CHINESE = pa.schema(
    {
        **dict.fromkeys(("uuid", "model"), _STRING),
        "gen_input_configs": pa.struct(
            {
                **dict.fromkeys(("temperature", "top_p"), pa.float64()),
                "input_generator": _STRING,
                "seed": pa.null(),
                "pre_query_template": _STRING,
            }
        ),
        **dict.fromkeys(("instruction", "response"), _STRING),
        "conversations": _TURNS,
        "task_category": _STRING,
        "other_task_category": _STRINGS,
        **dict.fromkeys(("task_category_generator", "difficulty", "intent", "knowledge"), _STRING),
        **dict.fromkeys(("difficulty_generator", "input_quality", "quality_explanation"), _STRING),
        **dict.fromkeys(("quality_generator", "llama_guard_2", "reward_model"), _STRING),
        **dict.fromkeys(("instruct_reward", "min_neighbor_distance"), pa.float64()),
        "repeat_count": pa.int64(),
        "min_similar_uuid": _STRING,
        **dict.fromkeys(("instruction_length", "response_length"), pa.int64()),
        "language": _STRING,
    }
)
