"""Stores one row per text for each of several sites, in memory or in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from .row_blocks import DTYPES, Block, read_block, read_manifest, write_block, write_manifest

_OP = "RowStore"
_HOST = "cpu"
_ROWS_MOVED = 1024  # of a site, from a device at once


class RowStore(Mapping[str, Tensor]):
    """Stores rows of activations: a mapping from names of sites to tensors ``[n, width]``.

    Rows are appended a batch at a time and cast to the dtype of the store. Blocks of `block_rows`
    rows are allocated at once. Rows of a GPU are collected there, and moved to the host some
    thousand at a time. With a folder, a full block is written as safetensors and freed, so
    memory holds one block per site; `flush` writes the remaining rows.

    Args:
        dtype: "float32", "bfloat16" or "float16".
        folder: the folder to write to, created if it does not exist; it must be empty. Without one,
            rows stay in memory.
        block_rows: number of rows of a block.

    Raises:
        ValueError: an unknown dtype, fewer than one row per block.
        FileExistsError: the folder is not empty.

    Example:
        >>> store = RowStore("bfloat16")
        >>> store.append("layer.0", torch.ones(2, 3))
        >>> store.append("layer.0", torch.zeros(1, 3))
        >>> store["layer.0"].shape, store["layer.0"].dtype
        (torch.Size([3, 3]), torch.bfloat16)
    """

    def __init__(
        self, dtype: str = "float32", *, folder: str | Path | None = None, block_rows: int = 8192
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"{_OP}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if block_rows < 1:
            raise ValueError(f"{_OP}: block_rows must be at least 1, got {block_rows}")
        self.dtype, self.block_rows = dtype, block_rows
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(self.folder.iterdir()):
                raise FileExistsError(f"{_OP}: {self.folder} holds something; name another folder")
        self._blocks: dict[str, list[Tensor | Block]] = {}
        self._filled: dict[str, int] = {}  # rows of the last block
        self._pending: dict[str, list[Tensor]] = {}  # rows that are on a device yet
        self._widths: dict[str, int] = {}
        self._finished = False
        self._verify = True

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True) -> RowStore:
        """Opens a store that was flushed to a folder, for reading only.

        Args:
            folder: the folder of the store.
            verify: whether to compare each block with its digest when it is read, about a second
                per GB. Without, a value that a faulty disk changed is not noticed. Sizes are always
                checked.

        Raises:
            FileNotFoundError: no store was flushed to the folder.
            CorruptedFolderError: the list of blocks was changed, or a block is missing.
        """
        root = Path(folder)
        described = read_manifest(root)
        store = cls(described.dtype, block_rows=described.block_rows)
        store.folder, store._finished, store._verify = root, True, verify
        for site in described.sites:
            store._blocks[site.name] = list(site.blocks)
            store._widths[site.name] = site.width
        return store

    def append(self, site: str, rows: Tensor) -> None:
        """Appends rows to a site.

        Args:
            site: the name of the site.
            rows: ``[n, width]`` of any floating-point dtype.

        Raises:
            ValueError: a width that differs from earlier rows; a store that was opened or flushed.
        """
        if self._finished:
            raise ValueError(f"{_OP}: {self.folder} is finished; rows cannot be added")
        if rows.ndim != 2:
            raise ValueError(f"{_OP}: rows must have 2 dimensions, got {rows.ndim}")
        width = self._widths.setdefault(site, rows.shape[1])
        if rows.shape[1] != width:
            raise ValueError(f"{_OP}: rows of {site} must have width {width}, got {rows.shape[1]}")
        blocks = self._blocks.setdefault(site, [])
        if rows.device.type != _HOST:
            pending = self._pending.setdefault(site, [])
            pending.append(rows.detach().to(DTYPES[self.dtype], copy=True))
            if sum(map(len, pending)) < _ROWS_MOVED:
                return
            rows = self._moved(site)
        self._fill(site, width, blocks, rows)

    def _moved(self, site: str) -> Tensor:
        """Takes the rows of a site that are collected on a device to the host."""
        return torch.cat([rows.cpu() for rows in self._pending.pop(site)])

    def _settle(self, site: str) -> None:
        """Stores the rows that are collected on a device."""
        if self._pending.get(site):
            self._fill(site, self._widths[site], self._blocks[site], self._moved(site))

    def _fill(self, site: str, width: int, blocks: list[Tensor | Block], rows: Tensor) -> None:
        while len(rows):
            last = blocks[-1] if blocks else None
            filled = self._filled.get(site, 0)
            if not isinstance(last, Tensor) or filled == self.block_rows:
                self._write_last(site)
                with torch.inference_mode(False):  # later rows may come outside of it
                    last = torch.empty(self.block_rows, width, dtype=DTYPES[self.dtype])
                blocks.append(last)
                filled = 0
            taken = min(len(rows), self.block_rows - filled)
            last[filled : filled + taken] = rows[:taken]
            self._filled[site], rows = filled + taken, rows[taken:]

    def flush(self) -> None:
        """Writes the remaining rows to the folder; no rows can be added afterwards.

        Raises:
            ValueError: the store has no folder.
        """
        if self.folder is None:
            raise ValueError(f"{_OP}: this store has no folder")
        for site in self._blocks:
            self._settle(site)
            self._write_last(site)
        self._finished = True
        blocks = {
            site: [block for block in parts if isinstance(block, Block)]
            for site, parts in self._blocks.items()
        }
        write_manifest(self.folder, self.dtype, self.block_rows, blocks, self._widths)

    def blocks(self, site: str) -> Iterator[Tensor]:
        """Iterates over the rows of a site, one block ``[rows, width]`` at a time.

        Raises:
            CorruptedFolderError: a block was changed on the disk.
        """
        self._settle(site)
        parts = self._blocks[site]
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            if isinstance(part, Tensor):
                yield part[: self._filled[site]] if last else part
            else:
                yield read_block(part, self.dtype, self._widths[site], verify=self._verify)

    def __getitem__(self, site: str) -> Tensor:
        parts = list(self.blocks(site))
        if not parts:
            return torch.empty(0, self._widths[site], dtype=DTYPES[self.dtype])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def _write_last(self, site: str) -> None:
        blocks = self._blocks[site]
        if self.folder is None or not blocks or isinstance(blocks[-1], Block):
            return
        rows = blocks[-1][: self._filled[site]]
        number = list(self._blocks).index(site)
        path = self.folder / f"{number:03}-{len(blocks) - 1:05}.safetensors"
        blocks[-1] = write_block(path, rows)
