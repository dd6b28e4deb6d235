"""A corpus as shards of embeddings on disk: each whole or absent, so that work can stop anywhere.

A shard is one safetensors file for `search_shards`: vectors, the row of each in the corpus, the
name of each as text, the key of its plan and a checksum of everything. Machines may write different
shards of one folder at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files.atomic import replacing_text
from ..files.done_once import WrongChecksumError, digest_of, digest_of_columns, write_checked
from ..files.tensors import CorruptedFolderError
from .encoded_shard import check_shard, with_names

Encode = Callable[..., NDArray[np.float32]]

_OP = "encode_shards"
PLAN = "shards.json"
_VERSION = 2
DTYPES = ("float32", "float16", "bfloat16")


class Plan(NamedTuple):
    """What the shards of a folder have in common: shards of another plan would not fit them."""

    documents: int
    num_shards: int
    dtype: str
    model: Any  # what encodes, as JSON
    corpus: str  # digest of names and texts
    version: int = 0  # of the format; plans before version 1 do not have it

    @property
    def key(self) -> str:
        """Returns a digest of the plan, which each of its shards carries."""
        return digest_of(self._asdict())

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

    Shards that are there are compared with their checksums and left as they are; one whose writer
    was killed is written again, from its beginning. Nothing is encoded before the iterator is
    asked.

    Args:
        encode: from texts, or from texts and titles where there are any, to float32
            ``[len(texts), dim]``; such as `BiEncoder.encode_documents`.
        texts: of all documents, in the order of the corpus.
        names: of all documents.
        folder: where shards go; made if it is absent.
        num_shards: parts of nearly one size.
        shard: the one to write, from 0; all by default.
        dtype: "float32", "float16" or "bfloat16" on disk.
        model: says what encodes, in JSON's terms; shards of another model are refused. With None,
            a folder that was encoded by another model without a name is not noticed.
        titles: of all documents, "" where there is none; None for no titles at all.

    Yields:
        The path of each shard as it is finished, whether it was written now or before.

    Raises:
        ValueError: a shard out of range, names or titles that do not fit texts, a folder with
            shards of another corpus, model, dtype or number; a finished shard that is truncated or
            was changed; vectors that are not finite in that dtype.
        OSError: the folder cannot be written; shards that were finished stay.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> ones = lambda texts: np.ones((len(texts), 4), np.float32)
        >>> paths = encode_shards(ones, ["a", "b", "c"], ["1", "2", "3"], folder, num_shards=2)
        >>> [path.name for path in paths]
        ['00000-of-00002.safetensors', '00001-of-00002.safetensors']
    """
    plan, columns = plan_shards(
        texts,
        names,
        folder,
        num_shards=num_shards,
        shard=shard,
        dtype=dtype,
        model=model,
        titles=titles,
    )
    for number in range(num_shards) if shard is None else [shard]:
        rows = plan.rows(number)
        own = [column[rows.start : rows.stop] for column in columns]
        yield encode_shard(encode, own, names[rows.start : rows.stop], folder, plan, number)


def plan_shards(
    texts: Sequence[str],
    names: Sequence[str],
    folder: str | Path,
    *,
    num_shards: int = 1,
    shard: int | None = None,
    dtype: str = "float32",
    model: Any = None,
    titles: Sequence[str] | None = None,
) -> tuple[Plan, tuple[Sequence[str], ...]]:
    """Checks a corpus, and writes the plan of its shards into their folder or compares it.

    Args:
        texts, names, folder, num_shards, shard, dtype, model, titles: of `encode_shards`.

    Returns:
        The plan, and the columns that `encode_shard` takes, from the first row to the last.

    Raises:
        ValueError, OSError: as `encode_shards`.
    """
    columns = (texts, titles) if titles is not None and any(titles) else (texts,)
    plan = Plan(len(texts), num_shards, dtype, model, digest_of_columns(names, *columns), _VERSION)
    _check(plan, names, shard)
    if titles is not None and len(titles) != len(texts):
        raise ValueError(f"{_OP}: got {len(texts)} texts but {len(titles)} titles")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    _agree(root / PLAN, plan)
    return plan, columns


def encode_shard(
    encode: Encode,
    columns: Sequence[Sequence[str]],
    names: Sequence[str],
    folder: str | Path,
    plan: Plan,
    number: int,
) -> Path:
    """Encodes one shard of a plan and writes it, or checks the one that is there.

    Args:
        encode: of `encode_shards`.
        columns: texts, or texts and titles, of the documents of this shard.
        names: of the documents of this shard.
        folder: with the plan.
        plan: of `plan_shards`.
        number: of the shard, from 0.

    Returns:
        The path of the shard.

    Raises:
        ValueError, OSError: as `encode_shards`.
    """
    path, rows = shard_path(folder, plan, number), plan.rows(number)
    if path.exists():
        check_shard(path, plan.key, rows)
    else:
        _write(path, plan, encode(*columns), rows, names)
    return path


def shard_path(folder: str | Path, plan: Plan, number: int) -> Path:
    """Returns the path of a shard, which need not be there yet."""
    return Path(folder) / f"{number:05}-of-{plan.num_shards:05}.safetensors"


def plan_of(folder: str | Path) -> Plan:
    """Returns what the shards of a folder have in common.

    Raises:
        FileNotFoundError: there is no such folder, or it holds none.
        ValueError: the plan cannot be read, was changed, or is of another version.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    plan = _read(Path(folder) / PLAN)
    if plan is None:
        raise FileNotFoundError(
            f"{folder} holds no shards of a corpus: there is no {PLAN} of tilefold encode"
        )
    if plan.version != _VERSION:
        raise ValueError(
            f"{folder} holds shards of format version {plan.version}, expected {_VERSION}: encode "
            "the corpus again"
        )
    return plan


def shards_of(folder: str | Path, *, verify: bool = True) -> list[Path]:
    """Returns the shards of a folder, in order, for `search_shards`.

    Args:
        folder: with shards that `encode_shards` wrote.
        verify: whether to compare checksums, which reads every byte once. Without, a changed vector
            or name is not noticed. Headers, ids and plans are always checked.

    Raises:
        FileNotFoundError: there is no such folder, it has no plan, or shards are missing: names
            them.
        CorruptedFolderError: a shard is truncated, was changed, holds other documents than the plan
            says, or belongs to another folder.
    """
    root = Path(folder)
    plan = plan_of(root)
    paths = [shard_path(root, plan, number) for number in range(plan.num_shards)]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"{root} lacks {len(missing)} of {plan.num_shards} shards, such as {missing[0]}; "
            f"encode with --shard {missing[0]}"
        )
    for number, path in enumerate(paths):
        check_shard(path, plan.key, plan.rows(number), verify=verify)
    return paths


# ---- one shard -----------------------------------------------------------------------------------


def _write(
    path: Path, plan: Plan, vectors: NDArray[np.float32], rows: range, names: Sequence[str]
) -> None:
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise ValueError(
            f"{_OP}: encode must return [{len(rows)}, dim] for as many texts, got {vectors.shape}"
        )
    tensors: dict[str, NDArray[Any]] = {
        "vectors": _narrowed(vectors, plan.dtype, rows),
        "ids": np.arange(rows.start, rows.stop, dtype=np.int64),
        **with_names(names),
        "plan": np.frombuffer(plan.key.encode(), np.uint8),
    }
    write_checked(path, tensors, frozenset({"vectors"} if plan.dtype == "bfloat16" else ()))


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
        content = {**plan._asdict(), "checksum": plan.key}
        with replacing_text(path) as file:
            file.write(json.dumps(content, indent=1) + "\n")
        return
    for field, mine, theirs in zip(Plan._fields, plan, there, strict=True):
        if mine != theirs:
            raise ValueError(
                f"{_OP}: {path.parent} was written {_difference(field, theirs, mine)}; choose "
                "another folder"
            )


def _difference(field: str, theirs: Any, mine: Any) -> str:
    """Says how a plan that is there differs in a field: "with num_shards=1, not 2"."""
    if field == "documents":
        return f"from {theirs:,} documents, not {mine:,}"
    if field == "corpus":
        return "from another corpus: names, texts or titles differ"
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        pairs = {key: (theirs.get(key), mine.get(key)) for key in {**theirs, **mine}}
        listed = [f"{key}={a!r}, not {b!r}" for key, (a, b) in pairs.items() if a != b]
        return f"with another {field}: {'; '.join(listed)}"
    return f"with {field}={theirs!r}, not {mine!r}"


def _read(path: Path) -> Plan | None:
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum", None)
        plan = Plan(**content)
        key = plan.key
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptedFolderError(f"{path}: not the plan of shards: {error}") from error
    if checksum != key and (checksum is not None or plan.version == _VERSION):
        raise WrongChecksumError(f"{path} does not match its checksum: encode the corpus again")
    return plan
