"""Maps internal states of a model to the entries of a knowledge base by a linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...files.done_once import read_checked, write_checked
from ...losses import contrastive_loss
from ...ragged_lists import Lists
from .neuron_codes import varies

_BATCH = 256  # states in a step of training
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class KnowledgeHead:
    """A linear map from internal states, such as those of one layer, to embeddings of entries.

    The inner product of ``project(states)`` with the embeddings of a knowledge base's entries ranks
    them, by exact search or by any index. The loss is InfoNCE (van den Oord, Li and Vinyals, 2018).

    Args:
        weight: ``[width, dim]``.
        bias: ``[dim]``.

    Example:
        >>> states, entries = np.eye(3, dtype=np.float32), np.eye(3, 2, dtype=np.float32)
        >>> positives = Lists.pack([[0], [1], [2]])
        >>> head = KnowledgeHead.fit(states, entries, positives, epochs=3)
        >>> head.project(states).shape
        (3, 2)
    """

    weight: Floats
    bias: Floats

    @classmethod
    def fit(
        cls,
        states: Floats,
        entries: Floats,
        positives: Lists,
        *,
        temperature: float = 1.0,
        epochs: int = 30,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> KnowledgeHead:
        """Trains the map by the contrastive loss of each text's entries among all entries.

        States are standardised for the training, and the result includes that. The loss is
        ``logsumexp(all) - logsumexp(positives)`` of inner products over the temperature.

        Args:
            states: ``[n, width]`` float32 of n texts.
            entries: ``[m, dim]`` float32 embeddings of all entries, which stay as they are.
            positives: entries of each text, one or more.
            temperature: scores are divided by it.
            epochs: passes over the texts.
            learning_rate, weight_decay: of AdamW.
            seed: of the order of texts.

        Raises:
            ValueError: arrays of other shapes, no text, a text without an entry, an entry that is
                not there, epochs below 1.
        """
        _check(states, entries, positives, epochs)
        mean = states.mean(0)
        deviation = states.std(0)
        # A coordinate that does not vary becomes 0.
        deviation = np.where(varies(mean, deviation), deviation, np.inf).astype(np.float32)
        inputs = torch.from_numpy((states - mean) / deviation)
        targets = torch.from_numpy(np.ascontiguousarray(entries))
        linear = torch.nn.Linear(states.shape[1], entries.shape[1])
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        optimizer = torch.optim.AdamW(
            linear.parameters(), lr=learning_rate, weight_decay=weight_decay
        )
        rng = np.random.default_rng(seed)
        for _ in range(epochs):
            for rows in np.array_split(rng.permutation(len(states)), -(-len(states) // _BATCH)):
                own = Lists.pack([positives.of(int(row)) for row in rows])
                lists = torch.from_numpy(own.offsets), torch.from_numpy(own.indices)
                optimizer.zero_grad()
                loss = contrastive_loss(
                    linear(inputs[torch.from_numpy(rows)]),
                    targets,
                    lists,
                    temperature=temperature,
                    mode="sum",
                )
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        weight = linear.weight.detach().numpy().T / deviation[:, None]
        bias = linear.bias.detach().numpy() - mean @ weight
        return cls(np.ascontiguousarray(weight), bias)

    def project(self, states: Floats) -> Floats:
        """Returns embeddings of texts among the entries, float32 ``[n, dim]``.

        Args:
            states: ``[n, width]``.

        Raises:
            ValueError: states of another width.
        """
        if states.ndim != 2 or states.shape[1] != len(self.weight):
            raise ValueError(
                f"KnowledgeHead.project: states must be [n, {len(self.weight)}], got "
                f"{list(states.shape)}"
            )
        projected: Floats = (states @ self.weight + self.bias).astype(np.float32)
        return projected

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file that `load` reads."""
        write_checked(Path(path), {"weight": self.weight, "bias": self.bias})

    @classmethod
    def load(cls, path: str | Path) -> KnowledgeHead:
        """Reads the file of `save`.

        Raises:
            FileNotFoundError: no such file.
            CorruptedFolderError: not a whole safetensors file, or not what was written.
            ValueError: a file of another kind.
        """
        arrays = read_checked(Path(path))
        if set(arrays) != {"weight", "bias"}:
            raise ValueError(
                f"KnowledgeHead.load: {path} must have weight and bias, got {sorted(arrays)}"
            )
        return cls(np.array(arrays["weight"]), np.array(arrays["bias"]))


def _check(states: Any, entries: Any, positives: Lists, epochs: int) -> None:
    op = "KnowledgeHead.fit"
    if epochs < 1:
        raise ValueError(f"{op}: epochs must be at least 1, got {epochs}")
    for name, array in (("states", states), ("entries", entries)):
        if array.ndim != 2 or not len(array) or array.dtype != np.float32:
            raise ValueError(
                f"{op}: {name} must be float32 [n, width] with one row or more, got {array.dtype} "
                f"{list(array.shape)}"
            )
    if len(positives.offsets) != len(states) + 1:
        raise ValueError(
            f"{op}: expected positives of {len(states)} texts, got {len(positives.offsets) - 1}"
        )
    if (np.diff(positives.offsets) < 1).any():
        raise ValueError(f"{op}: every text must have an entry or more")
    if positives.indices.min() < 0 or positives.indices.max() >= len(entries):
        raise ValueError(f"{op}: positives must be 0 to {len(entries) - 1}")
