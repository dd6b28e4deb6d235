"""encode_on_workers(): encodes a corpus into shards on the workers of a Ray cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..retrieval.encode_shards import (
    Encode,
    Plan,
    encode_shard,
    plan_shards,
    shard_path,
)
from ..retrieval.encoded_shard import check_shard
from .shared_folder import check_shared
from .worker_pool import WorkerPool
from .worker_process import Work
from .workers import Workers

_OP = "encode_on_workers"
# What vectors depend on besides the weights.
_PACKAGES = ("torch", "transformers", "tokenizers")


class ShardTexts(NamedTuple):
    """What is sent to the worker that encodes a shard."""

    number: int
    columns: list[Sequence[str]]
    names: Sequence[str]


class ShardTasks(Sequence[ShardTexts]):
    """Shards to be encoded, whose texts are taken from the corpus when a worker gets them.

    Args:
        numbers: of the shards.
        plan: of the folder.
        columns: texts, or texts and titles, of all documents.
        names: of all documents.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        plan: Plan,
        columns: Sequence[Sequence[str]],
        names: Sequence[str],
    ) -> None:
        self._numbers, self._plan, self._columns, self._names = numbers, plan, columns, names

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        number = self._numbers[place]
        rows = self._plan.rows(number)
        own = [column[rows.start : rows.stop] for column in self._columns]
        return ShardTexts(number, own, self._names[rows.start : rows.stop])


def encode_on_workers(
    open_encoder: Callable[[], Encode],
    texts: Sequence[str],
    names: Sequence[str],
    folder: str | Path,
    *,
    workers: Workers | None = None,
    num_shards: int = 1,
    dtype: str = "float32",
    model: Any = None,
    titles: Sequence[str] | None = None,
) -> Iterator[Path]:
    """Encodes a corpus as `encode_shards` does, with several processes or machines.

    The folder has the same format, and the same bytes where the processor, the packages and the
    number of threads are the same. Shards that are there are checked and stay, whoever wrote them.
    A shard whose worker dies is encoded by another one.

    Args:
        open_encoder: called once in each worker; returns `encode` of `encode_shards`.
        texts, names, num_shards, dtype, model, titles: of `encode_shards`. The texts of a shard are
            read, by a slice, when they are sent to its worker, so that columns may be mapped.
        folder: where shards go, on storage that this process and all workers share.
        workers: the cluster; by default one on this machine.

    Yields:
        The path of each shard: those that are there, then others as they are finished.

    Raises:
        ValueError: as `encode_shards`; a worker has other versions of packages, or does not see the
            folder.
        ImportError, ConnectionError, ChildProcessError: as `WorkerPool`.
        Exception: what `open_encoder` or the encoder raised.

    Example:
        >>> paths = encode_on_workers(
        ...     open_encoder, texts, names, "vectors", num_shards=8, workers=Workers(number=2)
        ... )  # doctest: +SKIP
        >>> sorted(path.name for path in paths)[0]  # doctest: +SKIP
        '00000-of-00008.safetensors'
    """
    plan, columns = plan_shards(
        texts, names, folder, num_shards=num_shards, dtype=dtype, model=model, titles=titles
    )
    root, absent = Path(folder).resolve(), []
    for number in range(num_shards):
        path, rows = shard_path(root, plan, number), plan.rows(number)
        if path.exists():
            check_shard(path, plan.key, rows)
            yield path
        else:
            absent.append(number)
    if absent:
        tasks = ShardTasks(absent, plan, columns, names)
        yield from _encode_rest(open_encoder, tasks, root, plan, workers or Workers())


def _encode_rest(
    open_encoder: Callable[[], Encode],
    tasks: ShardTasks,
    root: Path,
    plan: Plan,
    workers: Workers,
) -> Iterator[Path]:
    def open_work() -> Work:
        check_shared(root, plan)
        encode = open_encoder()
        return lambda shared, task: str(
            encode_shard(encode, task.columns, task.names, shared[0], shared[1], task.number)
        )

    with WorkerPool(_OP, open_work, workers, most=len(tasks), packages=_PACKAGES) as pool:
        for _, path in pool.run(tasks, shared=(root, plan)):
            yield Path(path)


def open_document_encoder(
    name: str,
    settings: Mapping[str, Any],
    record: Mapping[str, Any],
    *,
    device: str,
    batch_size: int,
    threads: int,
) -> Encode:
    """Opens a model in a worker, as the encoder of documents.

    Args:
        name: of `tilefold.models.model_record.open_model`.
        settings: of `open_model`.
        record: of the model that the starting process opened.
        device: of torch.
        batch_size: texts in a forward pass.
        threads: of torch.

    Raises:
        ValueError: the worker found another model under this name.
    """
    from functools import partial

    import torch

    from ..models.model_record import model_record, open_model

    torch.set_num_threads(threads)
    model = open_model(name, **settings)
    own = model_record(model, name)
    for field, value in record.items():
        if own.get(field) != value:
            raise ValueError(
                f"the worker on {socket.gethostname()} found model {name} with {field} "
                f"{own.get(field)!r}, expected {value!r}"
            )
    encode = model.to(device).encode_documents
    return partial(encode, batch_size=batch_size, progress=False)
