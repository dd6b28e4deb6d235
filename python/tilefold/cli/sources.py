"""Checks the input of a verb before anything that takes long or may be missing."""

from __future__ import annotations

from pathlib import Path

from ..data.ir_datasets_reader import install_hint, is_dataset_name
from ..data.layouts import layout_of
from ..files.storage import published_kind
from ..retrieval.encode_shards import PLAN


def check_source(source: str) -> None:
    """Checks that an input is there: a file, a folder, or a name of ir_datasets.

    Raises:
        FileNotFoundError: it is none of them.
    """
    if not is_dataset_name(source) and not Path(source).exists():
        raise FileNotFoundError(f"there is no file or folder {source}{install_hint(source)}")


def check_encoded(source: str) -> None:
    """Checks that the folder of an encoded corpus is there, and is no collection of texts.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has yet to be encoded.
    """
    root = Path(source)
    if root.is_dir():
        has_texts = layout_of(root) is not None and not (root / PLAN).exists()
    else:
        has_texts = root.exists() or is_dataset_name(source)
    if has_texts:
        raise ValueError(
            f"{source} is not an encoded corpus; run: tilefold encode {source} --out FOLDER"
        )
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")


def check_no_saved_index(folder: str, command: str) -> None:
    """Checks that a folder is not of the `save` of an index, which keeps no names of documents.

    Raises:
        ValueError: it is; says what reads it.
    """
    kind = published_kind(Path(folder))
    if kind is None:
        return
    name = kind.removeprefix("tilefold.")
    served = f"tilefold serve {folder}, or " if name == "FlatIndex" else ""
    raise ValueError(
        f"{folder} is a saved {name}; {command} takes folders of tilefold encode; search it with "
        f"{served}{name}.load in Python"
    )
