"""Small training sets, arguments and results of training, for the tests of this folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold.data import TrainingSet
from tilefold.models import BiEncoder
from tilefold.ragged_lists import Lists
from tilefold.train import RetrieverTrainer
from tilefold.train.arguments import RetrieverTrainingArguments


def a_set(n: int = 24, negatives: bool = True, positives: int = 1) -> TrainingSet:
    """Query i asks for word i; positives i (and i + 1), negatives n + i, 2 n + i."""
    return TrainingSet(
        [f"q{i}" for i in range(n)],
        [f"who is w{i}" for i in range(n)],
        [f"d{i}" for i in range(3 * n)],
        [f"w{i % n} w{(i + i // n) % n} of w{i // n}" for i in range(3 * n)],
        Lists.pack([[(i + j) % n for j in range(positives)] for i in range(n)]),
        Lists.pack([[n + i, 2 * n + i] if negatives else [] for i in range(n)]),
        [() for _ in range(n)],
    )


def a_scored_set(**options: Any) -> TrainingSet:
    """The same with random scores of a teacher."""
    data, rng = a_set(**options), np.random.default_rng(0)
    sizes = len(data.positives.indices), len(data.negatives.indices)
    positives, negatives = (3 * rng.standard_normal(size) for size in sizes)
    return replace(data, positive_scores=positives, negative_scores=negatives)


def load(folder: Path, **options: Any) -> BiEncoder:
    return BiEncoder.from_pretrained(folder, pooling="mean", normalize=False, **options)


def arguments(folder: Path, **options: Any) -> RetrieverTrainingArguments:
    return RetrieverTrainingArguments(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 6,
            "num_train_epochs": 2,
            "warmup_steps": 0.2,
            "learning_rate": 1e-3,
            "use_cpu": True,
            "report_to": [],
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            "dataloader_drop_last": True,
            **options,
        }
    )


def losses_of(trainer: RetrieverTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights(model: Any) -> dict[str, Any]:
    return {name: x.detach().clone() for name, x in model.state_dict().items()}


def assert_same_bits(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert torch.equal(x, other[name]), name


def without_dropout(model: BiEncoder) -> BiEncoder:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model
