"""Ten rows of each judged benchmark: own texts in the schemas of the published files, and files of answers to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from example_recipe import write_jsonl

NUM = 10
MT_CATEGORIES = (
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
    "math",
    "coding",
)
ALIGN = (
    ("专业能力", "历史"), ("数学计算", "初等数学"), ("逻辑推理", "推理"), ("中文理解", "文化理解"),
    ("基本任务", "翻译"), ("文本写作", "创意文体写作"), ("综合问答", "寻求建议"),
    ("角色扮演", "（虚拟）恋爱类"), ("专业能力", "音乐"), ("数学计算", "高等数学"),
)  # fmt: skip
BIRDS = ("heron", "lark", "owl", "crane", "wren", "finch", "rook", "dove", "gull", "swift")
ASKED = [f"Tell me of the {name}." for name in BIRDS]


def alpaca_eval() -> list[dict[str, Any]]:
    """tatsu-lab/alpaca_eval, alpaca_eval_gpt4_baseline.json: one JSON array."""
    return [
        {
            "dataset": "helpful_base",
            "instruction": text,
            "output": f"It is a bird, of which there are many, number {i}.",
            "generator": "gpt4_1106_preview",
        }
        for i, text in enumerate(ASKED)
    ]


def arena_hard_first() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Arena-Hard v0.1 as first published: question.jsonl, and gpt-4-0314's answers."""
    questions = [
        {"question_id": f"q{i}", "category": "arena-hard-v0.1", "cluster": "Birds", "turns": [{"content": text}]}
        for i, text in enumerate(ASKED)
    ]
    answers = [
        {
            "question_id": f"q{i}",
            "answer_id": f"a{i}",
            "model_id": "gpt-4-0314",
            "choices": [
                {
                    "index": 0,
                    "turns": [{"content": f"It is a bird, of which there are many, number {i}.", "token_len": 7}],
                }
            ],
            "tstamp": 1.5,
        }
        for i in range(NUM)
    ]
    return questions, answers[::-1]  # joined by id, not by place


def arena_hard(version: str = "v2.0", model: str = "o3-mini-2025-01-31") -> tuple[list[Any], list[Any]]:
    """Arena-Hard since v2 (also v0.1, reformatted): question.jsonl, and a model's answers."""
    questions, answers = [], []
    for i, text in enumerate(ASKED):
        creative = i >= 6
        kinds = {"category": "creative_writing" if creative else "hard_prompt", "subcategory": "coding"}
        old = {"category": "arena-hard-v0.1", "cluster": "Birds"}
        questions.append({"uid": f"u{i}", **(kinds if version == "v2.0" else old), "prompt": text})
        talk = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": {"answer": f"It is a bird, of which there are many, number {i}."}},
        ]
        counts = {
            "header_count": {"h1": 0},
            "list_count": {"ordered": 0, "unordered": 0},
            "bold_count": {"**": 0, "__": 0},
        }
        answers.append(
            {
                "uid": f"u{i}",
                "ans_id": f"a{i}",
                "model": model,
                "messages": talk,
                "tstamp": 1.5,
                "metadata": {"token_len": 7, **counts},
            }
        )
    return questions, answers


def mt_bench() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """FastChat, llm_judge/data/mt_bench: question.jsonl, and reference_answer/gpt-4.jsonl with three categories."""
    questions: list[dict[str, Any]] = []
    answers = []
    for i, category in enumerate(MT_CATEGORIES):
        row = {"question_id": 81 + i, "category": category, "turns": [ASKED[i], f"And number {i}?"]}
        questions.append(row)
        if category in ("reasoning", "math", "coding", "extraction"):
            row["reference"] = [f"hint {i}", f"second hint {i}"]
        if category in ("reasoning", "math", "coding"):
            answers.append(
                {
                    "question_id": 81 + i,
                    "answer_id": f"r{i}",
                    "model_id": "gpt-4",
                    "choices": [{"index": 0, "turns": [f"reference {i}", f"second reference {i}"]}],
                    "tstamp": 1686286924.8,
                }
            )
    return questions, answers


def align_bench() -> list[dict[str, Any]]:
    """THUDM/AlignBench, data/data_v1.1_release.jsonl."""
    return [
        {
            "question_id": i + 1,
            "category": category,
            "subcategory": subcategory,
            "question": f"第{i}只鸟叫什么？",
            "reference": f"它叫{i}号。",
            "evidences": [{"url": "https://example.org/", "quote": f"{i}号"}],
        }
        for i, (category, subcategory) in enumerate(ALIGN)
    ]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Writes a JSONL file."""
    write_jsonl(path, rows)
    return path
