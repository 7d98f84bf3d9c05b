"""UltraFeedback, Magpie-Pro-DPO and HelpSteer2: English prompts, some of code and of mathematics, with answers."""

from __future__ import annotations

import gzip
import uuid
from pathlib import Path

from .files import Row, lines, write_card, write_jsonl, write_parquet
from .schemas import MAGPIE_PRO
from .words import answer, asked, category

_SOURCES = {
    "evol_instruct": "evol_instruct",
    "false_qa": "false_qa",
    **dict.fromkeys(("flan_v2_cot", "flan_v2_flan2021", "flan_v2_niv2", "flan_v2_p3"), "flan"),
    "sharegpt": "sharegpt",
    "truthful_qa": "truthful_qa",
    "ultrachat": "ultrachat",
}
"""Values of UltraFeedback's `source`, and the file of each."""
_MODELS = ["alpaca-7b", "falcon-40b-instruct", "gpt-4", "ultralm-13b"]


def write_ultrafeedback(folder: Path, rows: int) -> None:
    """Of 40 rows, two are duplicates, one has one completion and one has none."""
    files: dict[str, list[Row]] = {file: [] for file in _SOURCES.values()}
    for index in range(rows):
        source, file = list(_SOURCES.items())[index % len(_SOURCES)]
        prompt = asked(index - 11 if index % 20 == 19 else index)
        num = {18: 0, 38: 1}.get(index % 40, 4)
        has_answers = source.startswith(("truthful", "flan"))
        files[file].append(
            {
                "source": source,
                "instruction": prompt.text,
                "models": _MODELS,
                "completions": [_completion(prompt.subject, quality) for quality in range(num)],
                "correct_answers": [f"It is about {prompt.subject}."] if has_answers else ["None"],
                "incorrect_answers": ["It is about nothing."] if source == "truthful_qa" else ["None"],
            }
        )
    for file, of_file in files.items():
        write_jsonl(folder / f"{file}.jsonl", of_file)
    write_card(folder, {"license": "mit", "task_categories": ["text-generation"], "language": ["en"]})


def _completion(subject: str, quality: int) -> Row:
    rated = {"Rating": str(quality + 1), "Rationale": "So it is."}
    typed = {"Type": ["1"], "Rationale": "So it is.", "Rating": str(quality + 1), "Rationale For Rating": "It is so."}
    return {
        "annotations": {
            "helpfulness": typed,
            "honesty": rated,
            "instruction_following": rated,
            "truthfulness": typed,
        },
        "custom_system_prompt": "As an AI assistant, give accurate answers.",
        "model": _MODELS[quality],
        "principle": "helpfulness",
        "response": answer(subject, quality),
        "critique": "The answer could say more.",
        "overall_score": 2.0 * quality + 1.5,
        "fine-grained_score": quality + 1.25,
    }


def write_magpie_pro(folder: Path, rows: int) -> None:
    def row(index: int) -> Row:
        prompt = asked(100 + index)
        scores = [0.11 + 0.005 * ((index + n) % 5) for n in range(5)]
        responses = [f"{answer(prompt.subject, n % 4)} That is answer {n}." for n in range(5)]
        best, worst = (responses[scores.index(pick(scores))] for pick in (max, min))
        user = {"content": prompt.text, "role": "user"}
        return {
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"pro/{index}")),
            "instruction": prompt.text,
            "gen_input_configs": {"temperature": 1.0, "top_p": 1.0},
            "intent": "The user asks for a text.",
            "knowledge": "To answer, one needs to know the subject.",
            "difficulty": "easy",
            "input_quality": "good",
            "quality_explanation": "The request is clear.",
            "task_category": category(prompt.topic, index),
            "input_length": len(prompt.text),
            "responses": responses,
            "gen_response_configs": {
                "prompt": f"<|start_header_id|>user<|end_header_id|>\n\n{prompt.text}<|eot_id|>",
                "temperature": 0.8,
                "top_p": 1.0,
                "repetition_penalty": 1.0,
                "max_tokens": 4096,
                "stop_tokens": ["<|eot_id|>", "<|end_of_text|>"],
                "output_generator": "meta-llama/Meta-Llama-3-70B-Instruct",
                "engine": "vllm",
            },
            "rewards_armorm": [{"score": score} for score in scores],
            "chosen": [user, {"content": best, "role": "assistant"}],
            "rejected": [user, {"content": worst, "role": "assistant"}],
        }

    train, test = ([row(index) for index in numbers] for numbers in (range(rows), range(rows, rows + 2)))
    write_parquet(folder, {"train": (train, 5), "test": (test, 1)}, MAGPIE_PRO)


def write_helpsteer2(folder: Path, rows: int) -> None:
    """Two rows a prompt, one after the other; of three prompts, one has three turns."""

    def row(index: int) -> Row:
        prompt = asked(200 + index // 2)
        text = prompt.text
        if index // 2 % 3 == 2:
            before = f"Tell me something about {prompt.subject}.\n<extra_id_1>Assistant\n{answer(prompt.subject, 1)}"
            text = f"{before}\n<extra_id_1>User\n{text}"
        scores = dict.fromkeys(("helpfulness", "correctness", "coherence"), 4 - index % 2)
        return {"prompt": text, "response": answer(prompt.subject, 3 - 2 * (index % 2)), **scores} | {
            "complexity": 1,
            "verbosity": 2 - index % 2,
        }

    for split, numbers in {"train": range(rows), "validation": range(rows, rows + 4)}.items():
        with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(lines(map(row, numbers)))
    write_card(folder, {"license": "cc-by-4.0", "language": ["en"], "tags": ["human-feedback"]})
