"""A model filled from a checkpoint: every weight is there and fits, or it is an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch

from .encoder_settings import read_json


def load_weights(kind: Any, name: str | Path, **options: Any) -> Any:
    """`kind.from_pretrained(name)` in float32, where nothing is left random.

    Args:
        kind: a model class, or an auto class, of transformers.
        name: folder or hub name.
        **options: of `from_pretrained`.

    Raises:
        ValueError: weights of the model are missing in the checkpoint or have another shape; names
            some of them. A pooler may be missing: it is not used, and many publish without it.
    """
    with quiet():
        model, report = kind.from_pretrained(
            name,
            dtype=torch.float32,
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
    if missing:
        others = sorted(report["unexpected_keys"])[:1]
        hints = [f"; it has others, such as {key}: another architecture?" for key in others]
        raise ValueError(
            f"from_pretrained: {name} lacks {len(missing)} weights of {kind_name}, such as "
            f"{missing[0]}{''.join(hints)}"
        )
    return model


def find(name: str | Path, filename: str) -> Path | None:
    """A file of a folder or of a hub repository; None where it has no such file."""
    import transformers

    if Path(name).is_dir():
        path = Path(name) / filename
        return path if path.is_file() else None
    hub: Any = transformers.utils
    found = hub.cached_file(str(name), filename, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def weight_names(name: str | Path) -> list[str]:
    """Names of the weights in a checkpoint, from its headers.

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
    """No loading bar and no report of unused weights; what matters is raised."""
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
