"""A corpus as shards of embeddings on disk: each whole or absent, so that work can stop anywhere.

A shard is one safetensors file for `search_shards`: vectors, the row of each in the corpus, and the
name of each as text. Machines may write different shards of one folder at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files.atomic import replacing, replacing_text
from ..files.done_once import digest_of_columns
from ..files.tensors import map_tensors, write_tensors

Encode = Callable[..., NDArray[np.float32]]

_OP = "encode_shards"
_PLAN = "shards.json"
_VERSION = 1
DTYPES = ("float32", "float16", "bfloat16")


class Plan(NamedTuple):
    """What the shards of a folder have in common: shards of another plan would not fit them."""

    documents: int
    num_shards: int
    dtype: str
    model: Any  # what encodes, as JSON
    corpus: str  # digest of names and texts
    version: int = 0  # of the format; plans before version 1 do not have it

    def rows(self, shard: int) -> range:
        """Rows of the corpus that a shard holds."""
        first, end = (self.documents * (shard + i) // self.num_shards for i in (0, 1))
        return range(first, end)


def encode_shards(
    encode: Encode,
    texts: Sequence[str],
    names: Sequence[str],
    folder: str | Path,
    *,
    num_shards: int = 1,
    shard: int | None = None,
    dtype: str = "float32",
    model: Any = None,
    titles: Sequence[str] | None = None,
) -> Iterator[Path]:
    """Encodes a corpus, or one shard of it, and writes what is not there yet.

    Shards that are there are left as they are; one whose writer was killed is written again, from
    its beginning. Nothing is encoded before the iterator is asked.

    Args:
        encode: from texts, or from texts and titles where there are any, to float32
            ``[len(texts), dim]``; such as `BiEncoder.encode_documents`.
        texts: of all documents, in the order of the corpus.
        names: of all documents.
        folder: where shards go; made if it is absent.
        num_shards: parts of nearly one size.
        shard: the one to write, from 0; all by default.
        dtype: "float32", "float16" or "bfloat16" on disk.
        model: says what encodes, in JSON's terms; shards of another model are refused.
        titles: of all documents, "" where there is none; None for no titles at all.

    Yields:
        The path of each shard as it is finished, whether it was written now or before.

    Raises:
        ValueError: a shard out of range, names or titles that do not fit texts, a folder with
            shards of another corpus, model, dtype or number; vectors that are not finite in that
            dtype.
        OSError: the folder cannot be written; shards that were finished stay.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> ones = lambda texts: np.ones((len(texts), 4), np.float32)
        >>> paths = encode_shards(ones, ["a", "b", "c"], ["1", "2", "3"], folder, num_shards=2)
        >>> [path.name for path in paths]
        ['00000-of-00002.safetensors', '00001-of-00002.safetensors']
    """
    columns = (texts, titles) if titles is not None and any(titles) else (texts,)
    plan = Plan(len(texts), num_shards, dtype, model, digest_of_columns(names, *columns), _VERSION)
    _check(plan, names, shard)
    if titles is not None and len(titles) != len(texts):
        raise ValueError(f"{_OP}: got {len(texts)} texts but {len(titles)} titles")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    _agree(root / _PLAN, plan)
    for number in range(num_shards) if shard is None else [shard]:
        path = root / f"{number:05}-of-{num_shards:05}.safetensors"
        if not path.exists():
            rows = plan.rows(number)
            vectors = encode(*(column[rows.start : rows.stop] for column in columns))
            _write(path, vectors, rows, [names[row] for row in rows], dtype)
        yield path


def plan_of(folder: str | Path) -> Plan:
    """What the shards of a folder are.

    Raises:
        FileNotFoundError: it holds none.
    """
    plan = _read(Path(folder) / _PLAN)
    if plan is None:
        raise FileNotFoundError(f"{folder} holds no shards of a corpus: there is no {_PLAN}")
    return plan


def shards_of(folder: str | Path) -> list[Path]:
    """The shards of a folder, in order, for `search_shards`.

    Raises:
        FileNotFoundError: the folder has no plan, or shards are missing: names them.
    """
    root = Path(folder)
    plan = plan_of(root)
    paths = [root / f"{i:05}-of-{plan.num_shards:05}.safetensors" for i in range(plan.num_shards)]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"{root} lacks {len(missing)} of {plan.num_shards} shards, such as {missing[0]}; "
            f"encode with --shard {missing[0]}"
        )
    return paths


def names_of(paths: Sequence[str | Path]) -> list[str]:
    """Names of documents, by row of the corpus.

    Args:
        paths: all shards, of `shards_of`.
    """
    return [name for path in paths for name in named(map_tensors(Path(path)))]


def with_names(names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Names as tensors: their bytes, and where each ends."""
    encoded = [name.encode() for name in names]
    return {
        "names": np.frombuffer(b"".join(encoded), np.uint8),
        "name_ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
    }


def named(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """The names of `with_names`."""
    text, ends = tensors["names"].tobytes(), tensors["name_ends"].tolist()
    return [text[begin:end].decode() for begin, end in pairwise([0, *ends])]


# ---- one shard -----------------------------------------------------------------------------------


def _write(
    path: Path, vectors: NDArray[np.float32], rows: range, names: Sequence[str], dtype: str
) -> None:
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise ValueError(
            f"{_OP}: encode must return [{len(rows)}, dim] for as many texts, got {vectors.shape}"
        )
    tensors: dict[str, NDArray[Any]] = {
        "vectors": _narrowed(vectors, dtype, rows),
        "ids": np.arange(rows.start, rows.stop, dtype=np.int64),
        **with_names(names),
    }
    with replacing(path) as partial:
        write_tensors(partial, tensors, frozenset({"vectors"} if dtype == "bfloat16" else ()))


def _narrowed(vectors: NDArray[np.float32], dtype: str, rows: range) -> NDArray[Any]:
    wide = np.ascontiguousarray(vectors, np.float32)
    narrow: NDArray[Any]
    if dtype == "bfloat16":  # round to nearest, ties to even
        bits = wide.view(np.uint32).astype(np.uint64)
        narrow = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        finite = (narrow & 0x7F80) != 0x7F80
    else:
        with np.errstate(over="ignore"):
            narrow = wide.astype(dtype)
        finite = np.isfinite(narrow)
    bad = ~finite.all(1)
    if bad.any():
        row = rows[int(bad.argmax())]
        raise ValueError(f"{_OP}: the vector of document {row} is not finite in {dtype}")
    return narrow


# ---- the plan ------------------------------------------------------------------------------------


def _check(plan: Plan, names: Sequence[str], shard: int | None) -> None:
    if len(names) != plan.documents:
        raise ValueError(f"{_OP}: got {plan.documents} texts but {len(names)} names")
    if not 1 <= plan.num_shards <= 99_999:
        raise ValueError(f"{_OP}: num_shards must be 1 to 99,999, got {plan.num_shards}")
    if shard is not None and not 0 <= shard < plan.num_shards:
        raise ValueError(f"{_OP}: shard must be 0 to {plan.num_shards - 1}, got {shard}")
    if plan.dtype not in DTYPES:
        raise ValueError(f"{_OP}: dtype must be one of {', '.join(DTYPES)}, got {plan.dtype!r}")


def _agree(path: Path, plan: Plan) -> None:
    """Writes the plan, or refuses another one than is there."""
    there = _read(path)
    if there is None:
        with replacing_text(path) as file:
            file.write(json.dumps(plan._asdict(), indent=1) + "\n")
        return
    for field, mine, theirs in zip(Plan._fields, plan, there, strict=True):
        if mine != theirs:
            raise ValueError(
                f"{_OP}: {path.parent} holds shards of another {field}: {theirs!r}, not {mine!r}; "
                "choose another folder"
            )


def _read(path: Path) -> Plan | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Plan(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not the plan of shards: {error}") from error
