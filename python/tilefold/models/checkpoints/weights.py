"""Loads the weights of a model, and refuses a checkpoint where any is missing or does not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch

from .encoder_settings import read_json

# Parts of published checkpoints that no model here uses: poolers, the head of next-sentence
# prediction, and position numbers that old versions of transformers saved.
_UNUSED = {"pooler", "seq_relationship", "position_ids"}


def load_weights(
    kind: Any,
    name: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    all_used: bool = False,
    **options: Any,
) -> Any:
    """Returns `kind.from_pretrained(name)`, and refuses to leave any weight random.

    Args:
        kind: a model class, or an auto class, of transformers.
        name: folder or hub name.
        dtype: precision of the weights.
        all_used: whether weights that the model does not have are an error as well.
        **options: of `from_pretrained`.

    Raises:
        ValueError: weights of the model are missing in the checkpoint or have another shape, or
            with `all_used` the checkpoint has others; names some of them. A pooler may be missing:
            it is not used, and many publish without it.
    """
    with quiet():
        model, report = kind.from_pretrained(
            name,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported as well, and raised below
            **options,
        )
    kind_name = type(model).__name__
    if report["mismatched_keys"]:
        key, in_file, in_model = sorted(report["mismatched_keys"])[0]
        raise ValueError(
            f"from_pretrained: {len(report['mismatched_keys'])} weights of {name} do not fit its "
            f"{kind_name}, such as {key}: {tuple(in_file)} in the file, {tuple(in_model)} expected"
        )
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key.split("."))
    others = sorted(report["unexpected_keys"])
    if missing:
        hints = [f"; it has others, such as {key}: another architecture?" for key in others[:1]]
        raise ValueError(
            f"from_pretrained: {name} lacks {len(missing)} weights of {kind_name}, such as "
            f"{missing[0]}{_without_head(model, missing)}{''.join(hints)}"
        )
    left_over = [key for key in others if not _UNUSED & set(key.split("."))]
    if all_used and left_over:
        raise ValueError(
            f"from_pretrained: {name} has {len(left_over)} weights that {kind_name} does not use, "
            f"such as {left_over[0]}: it is a checkpoint of another class"
        )
    return model


def check_head(model: Any, name: str | Path) -> None:
    """Refuses a language model whose head shares the embeddings against its configuration.

    A head with the weights of the word embeddings is in no file, so transformers does not miss it.
    But T5 1.1 and Flan-T5 have a head of their own, and transformers 5 shares the embeddings all
    the same where a checkpoint lacks it, such as one of the encoder and decoder alone.

    Args:
        model: loaded from `name`.
        name: folder or hub name.

    Raises:
        ValueError: the configuration says that the head is untied, and the checkpoint has none.
    """
    path = find(name, "config.json")
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if path is None or read_json(path).get("tie_word_embeddings", True) or head is None:
        return
    own = next(key for key, part in model.named_modules() if part is head) + ".weight"
    if head.weight is embeddings.weight and own not in weight_names(name):
        raise ValueError(
            f"from_pretrained: {name} lacks {own}, the language modelling head, which its "
            f"configuration says is not tied to the word embeddings"
        )


def _without_head(model: Any, missing: list[str]) -> str:
    """Returns a hint where nothing but the language modelling head is missing."""
    base = f"{getattr(model, 'base_model_prefix', '')}."
    has_head = getattr(model, "get_output_embeddings", lambda: None)() is not None
    if not has_head or any(key.startswith(base) for key in missing):
        return ""
    return ": it has no language modelling head, and a new one would be random"


def find(name: str | Path, filename: str) -> Path | None:
    """Returns the path of a file of a folder or hub repository, or None if it has no such file."""
    import transformers

    if Path(name).is_dir():
        path = Path(name) / filename
        return path if path.is_file() else None
    hub: Any = transformers.utils
    found = hub.cached_file(str(name), filename, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def weight_names(name: str | Path) -> list[str]:
    """Returns the names of the weights in a checkpoint, read from its headers.

    Raises:
        FileNotFoundError: it has neither safetensors nor pytorch_model.bin.
    """
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (path := find(name, index)) is not None:
            return sorted(read_json(path)["weight_map"])
    if (path := find(name, "model.safetensors")) is not None:
        with safetensors.safe_open(path, "pt") as file:
            return sorted(file.keys())
    if (path := find(name, "pytorch_model.bin")) is not None:
        return sorted(torch.load(path, map_location="meta", weights_only=True))
    raise FileNotFoundError(f"{name} has neither model.safetensors nor pytorch_model.bin")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences loading bars and reports of unused weights of transformers."""
    import transformers

    log: Any = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
