"""Second moments of the inputs of feed-forward output layers, kept in files to share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...activations import capture
from ...files.done_once import digest_of_columns, read_checked, result_key, write_checked
from ...models.fingerprint import tokenizer_digest
from ...models.length_batches import check_batches, check_texts
from ..neurons.feedforward import NAMES, FeedForward, own_feed_forwards
from .editable_model import editable_digest
from .layer_inputs import TextReader, below_head, reading

_VERSION = 1  # raised when the same model and texts give other moments
_COUNT = "number of tokens"
# Fields of a configuration that a model with a head has differently, or by who saved it.
_NOT_OF_KEYS = {
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "name_or_path",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
# Added to the diagonal, as a share of its mean: directions that no text has stay solvable.
_RIDGE = 1e-6


@dataclass(frozen=True)
class SecondMoments:
    """Uncentred second moments ``E[k kᵀ]`` of keys, by layer.

    A key is the input of a block's output layer at one token: the activations of its neurons.

    Args:
        count: number of tokens.
        matrices: layer -> float64 ``[neurons, neurons]``.
    """

    count: int
    matrices: Mapping[int, Tensor]

    def at(self, op: str, layer: int) -> Tensor:
        """Returns the moments of a layer, float64 ``[neurons, neurons]``.

        Raises:
            ValueError: none were computed of that layer.
        """
        if layer not in self.matrices:
            raise ValueError(
                f"{op}: no second moments of layer {layer}, but of {sorted(self.matrices)}"
            )
        moments = self.matrices[layer]
        return moments + _RIDGE * moments.diagonal().mean() * torch.eye(len(moments)).double()


def second_moments(
    model: TextReader,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    folder: str | Path | None = None,
    batch_size: int = 32,
    progress: bool | str = False,
    names: Sequence[tuple[str, str]] = NAMES,
) -> SecondMoments:
    """Computes second moments of keys over the tokens of texts, unless a file has them.

    The statistics that ROME and MEMIT use for what a layer has stored already (Meng et al., 2022,
    2023). Activations are not stored: the sum is accumulated in float64, on the CPU, where the
    model has to be.

    Args:
        model: a language model or an encoder.
        texts: strings; one beyond max_length is truncated.
        layers: which blocks; by default all.
        folder: keeps a file for each layer. Its name is a digest of model, layer and texts alone,
            so that files can be computed on one machine and copied to another.
        batch_size: texts per forward pass.
        progress: whether to show progress on stderr; a string labels it.
        names: see `feed_forwards`.

    Raises:
        TypeError: texts that are not strings.
        ValueError: no text, a layer that the model does not have.
        WrongChecksumError: a file was changed after it was written.

    Example:
        >>> from tilefold.models import minilm
        >>> found = second_moments(minilm(), ["a cat sleeps", "bills are due"], layers=[3])
        >>> found.count, found.matrices[3].shape
        (10, torch.Size([1536, 1536]))
    """
    op = "second_moments"
    check_texts(texts, op)
    check_batches(op, batch_size, None)
    if not len(texts):
        raise ValueError(f"{op}: expected one text or more, got none")
    parts = {part.layer: part for part in own_feed_forwards(op, model, names)}
    wanted = sorted(parts) if layers is None else list(layers)
    unknown = [layer for layer in wanted if layer not in parts]
    if unknown:
        raise ValueError(f"{op}: layers must be 0 to {len(parts) - 1}, got {unknown[0]}")
    files: dict[int, Path] = {}
    if folder is not None:
        whole: Any = model.model
        config = {key: str(value) for key, value in whole.config.to_dict().items()}
        config = {key: value for key, value in config.items() if key not in _NOT_OF_KEYS}
        tokens = tokenizer_digest(model.tokenizer)
        key = [editable_digest(model, names), config, tokens, model.max_length]
        key.append(digest_of_columns(texts))
        for layer in wanted:
            own = [*key, parts[layer].layer, _site(parts[layer])]
            name = f"moments-{result_key('second moments', _VERSION, own)}.safetensors"
            files[layer] = Path(folder) / name
    found = {layer: _read(path) for layer, path in files.items() if path.is_file()}
    absent = [layer for layer in wanted if layer not in found]
    if absent:
        computed = _computed(model, texts, absent, batch_size, progress, names)
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for layer, (count, matrix) in computed.items():
                write_checked(files[layer], {_COUNT: np.array(count), "moments": matrix.numpy()})
        found |= computed
    return SecondMoments(
        found[wanted[0]][0] if wanted else 0, {layer: found[layer][1] for layer in wanted}
    )


def _site(part: FeedForward) -> str:
    """Returns the name of the output layer inside of its block."""
    block = part.blocks[part.layer]
    names: list[str] = [name for name, module in block.named_modules() if module is part.output]
    return names[0]


def _read(path: Path) -> tuple[int, Tensor]:
    arrays = read_checked(path)
    return int(arrays[_COUNT]), torch.from_numpy(arrays["moments"])


def _computed(
    model: TextReader,
    texts: Sequence[str],
    layers: Sequence[int],
    batch_size: int,
    progress: bool | str,
    names: Sequence[tuple[str, str]],
) -> dict[int, tuple[int, Tensor]]:
    below = below_head(model)
    parts = {part.layer: part for part in own_feed_forwards("second_moments", below, names)}
    sites = {layer: f"{parts[layer].output_name}:input" for layer in layers}
    with (
        reading(model, texts, batch_size=batch_size, progress=progress) as batches,
        capture(below, list(sites.values()), second_moment=True) as seen,
    ):
        for tokens in batches:
            below(**tokens)
    return {layer: (seen[site].count, seen[site].second_moment) for layer, site in sites.items()}
