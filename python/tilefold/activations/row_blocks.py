"""Blocks of a `RowStore` in a folder, and the manifest that lists them with sizes and digests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..files.atomic import replacing, replacing_text, sync
from ..files.done_once import WrongChecksumError, digest_of, digest_of_array
from ..files.tensors import CorruptedFolderError, map_tensors, write_tensors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MANIFEST = "sites.json"
_VERSION = 1


class Block(NamedTuple):
    """Rows of a site in a file.

    Attributes:
        path: safetensors with one tensor ``rows``, ``[rows, width]``.
        rows: how many.
        digest: of dtype, shape and values.
    """

    path: Path
    rows: int
    digest: str


class Site(NamedTuple):
    """A site in a manifest: its name, the width of its rows, and its blocks in order."""

    name: str
    width: int
    blocks: list[Block]


class Manifest(NamedTuple):
    """What `RowStore.flush` wrote: dtype, rows of a full block, and sites in order."""

    dtype: str
    block_rows: int
    sites: list[Site]


def write_block(path: Path, rows: Tensor) -> Block:
    """Writes rows to a new file, which is not durable before `write_manifest`.

    Args:
        path: of the block.
        rows: ``[rows, width]`` of one of `DTYPES`.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    bfloat16 = rows.dtype == torch.bfloat16
    values = (rows.view(torch.uint16) if bfloat16 else rows).numpy()
    with replacing(path, durable=False) as partial:
        write_tensors(partial, {"rows": values}, frozenset({"rows"} if bfloat16 else ()))
    return Block(path, len(values), digest_of_array(values))


def read_block(block: Block, dtype: str, width: int, *, verify: bool) -> Tensor:
    """Reads the rows of a block.

    Args:
        block: that `write_block` returned, or a manifest lists.
        dtype: of the store.
        width: of its site.
        verify: whether to compare the digest.

    Raises:
        CorruptedFolderError: the file is truncated or holds something else.
        WrongChecksumError: a value was changed.
    """
    rows: NDArray[Any] = np.array(map_tensors(block.path).get("rows", ()))
    bits = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)
    if rows.shape != (block.rows, width) or rows.dtype != bits:
        raise CorruptedFolderError(
            f"{block.path}: expected {dtype} rows of shape ({block.rows}, {width}), got "
            f"{rows.dtype} of shape {rows.shape}"
        )
    if verify and digest_of_array(rows) != block.digest:
        raise WrongChecksumError(f"{block.path} does not match its checksum; capture it again")
    found = torch.from_numpy(rows.view(bits))
    return found.view(torch.bfloat16) if dtype == "bfloat16" else found


def write_manifest(
    folder: Path,
    dtype: str,
    block_rows: int,
    blocks: Mapping[str, Sequence[Block]],
    widths: Mapping[str, int],
) -> None:
    """Syncs all blocks to the disk, and lists them in a manifest.

    Args:
        folder: of the store.
        dtype: of its rows.
        block_rows: rows of a full block.
        blocks: of each site, in order.
        widths: of the rows of each site.

    Raises:
        OSError: something cannot be written; then there is no manifest.
    """
    for block in (block for own in blocks.values() for block in own):
        sync(block.path)
    sites = [
        [site, widths[site], [[block.path.name, block.rows, block.digest] for block in own]]
        for site, own in blocks.items()
    ]
    content = {"version": _VERSION, "dtype": dtype, "block_rows": block_rows, "sites": sites}
    with replacing_text(folder / _MANIFEST) as file:
        file.write(json.dumps({**content, "checksum": digest_of(content)}) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a folder, and checks that all blocks are there.

    Raises:
        FileNotFoundError: there is none.
        CorruptedFolderError: it cannot be read, was changed, or a block is missing.
    """
    path = folder / _MANIFEST
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum", None)
        if content["version"] != _VERSION or checksum != digest_of(content):
            raise WrongChecksumError(f"{path} does not match its checksum; capture the rows again")
        sites = [_site(folder, *site) for site in content["sites"]]
        manifest = Manifest(content["dtype"], content["block_rows"], sites)
    except CorruptedFolderError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptedFolderError(f"{path} is no list of blocks: {error}") from error
    for block in (block for site in manifest.sites for block in site.blocks):
        if not block.path.is_file():
            raise CorruptedFolderError(f"{block.path} is missing; capture the rows again")
    return manifest


def _site(folder: Path, name: str, width: int, blocks: Sequence[tuple[str, int, str]]) -> Site:
    own = [Block(folder / Path(file).name, rows, digest) for file, rows, digest in blocks]
    return Site(name, width, own)
