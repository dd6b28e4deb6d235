"""Checks the input of a verb before anything that takes long or may be missing."""

from __future__ import annotations

from pathlib import Path

from ..data.ir_datasets_reader import install_hint, is_dataset_name


def check_source(source: str) -> None:
    """Checks that an input is there: a file, a folder, or a name of ir_datasets.

    Raises:
        FileNotFoundError: it is none of them.
    """
    if not is_dataset_name(source) and not Path(source).exists():
        raise FileNotFoundError(f"there is no file or folder {source}{install_hint(source)}")
