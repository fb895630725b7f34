"""Language models whose sizes are published, and their configurations, in models/configs."""

from __future__ import annotations

from tests.conftest import MODELS

CONFIGS = MODELS / "configs"

# Parameters in total, each tensor once, as published with the weights.
PUBLISHED = {
    "bert-base-uncased": 109_482_240,
    "bloom-560m": 559_214_592,
    "gemma-2b": 2_506_172_416,
    "gpt2": 124_439_808,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "phi-3-mini": 3_821_079_552,
    "pythia-70m": 70_426_624,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-72b": 72_706_203_648,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-4b": 4_022_468_096,
    "t5-small": 60_506_624,
}
