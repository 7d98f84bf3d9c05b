"""Shapes of the shipped recipes' models, as their makers publish them, for machines that do not have the models.

From each model's config.json on the hub; a test compares the number of parameters with that of transformers' model.
"""

from __future__ import annotations

from .memory import Shape

_QWEN_72B = Shape(
    parameters=72_706_203_648, layers=80, hidden=8192, intermediate=29568, kv_width=1024, vocabulary=152064
)
PUBLISHED = {
    "google/gemma-2-27b-it": Shape(
        parameters=27_227_128_320, layers=46, hidden=4608, intermediate=36864, kv_width=2048, vocabulary=256000
    ),
    "mistralai/Mistral-Large-Instruct-2407": Shape(
        parameters=122_610_069_504, layers=88, hidden=12288, intermediate=28672, kv_width=1024, vocabulary=32768
    ),
    "Qwen/Qwen2.5-72B-Instruct": _QWEN_72B,
    "Qwen/Qwen2.5-Math-72B-Instruct": _QWEN_72B,
    "meta-llama/Llama-3.1-70B-Instruct": Shape(
        parameters=70_553_706_496, layers=80, hidden=8192, intermediate=28672, kv_width=1024, vocabulary=128256
    ),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(
        parameters=8_030_261_248, layers=32, hidden=4096, intermediate=14336, kv_width=1024, vocabulary=128256
    ),
    "Qwen/Qwen2.5-7B-Instruct": Shape(
        parameters=7_615_616_512, layers=28, hidden=3584, intermediate=18944, kv_width=512, vocabulary=152064
    ),
    "google/gemma-2-9b-it": Shape(
        parameters=9_241_705_984, layers=42, hidden=3584, intermediate=14336, kv_width=2048, vocabulary=256000
    ),
    "meta-llama/Llama-3.2-3B-Instruct": Shape(
        parameters=3_212_749_824, layers=28, hidden=3072, intermediate=8192, kv_width=1024, vocabulary=128256
    ),
    "meta-llama/Llama-3.2-1B-Instruct": Shape(
        parameters=1_235_814_400, layers=16, hidden=2048, intermediate=8192, kv_width=512, vocabulary=128256
    ),
    # The backbone of Llama 3 8B without its head, and the gate and the heads of services/armorm.py.
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": Shape(
        parameters=7_511_316_861, layers=32, hidden=4096, intermediate=14336, kv_width=1024, vocabulary=128256
    ),
}
"""Hub id -> shape."""
