"""Kinds of state on disk that is read back: how a small one is written, and what reading it gives.

`fuzz_files.py` and `files/test_changed_files.py` change their files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tilefold
from tilefold.files.folder_digests import check_digests, write_digests
from tilefold.files.steps import Steps
from tilefold.retrieval.corpus import open_corpus, save_index
from tilefold.retrieval.encode_shards import encode_shards

DIM, N = 6, 40


class Kind(NamedTuple):
    """A kind of state.

    Attributes:
        name: for people.
        write: writes it into an empty folder; other contents for another seed.
        read: the answer from a folder, comparable by ``==``.
        needs: modules that both need.
        bound: whether the reader knows which of several states it wants, so that a whole one in
            its place is noticed.
    """

    name: str
    write: Callable[[Path, int], object]
    read: Callable[[Path], Any]
    needs: tuple[str, ...] = ()
    bound: bool = True


class StoppedError(Exception):
    """Ends a search after some shards."""


def rows(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


QUERIES, SHARDS = rows(99, 3), np.array_split(rows(7), 3)


def as_bytes(found: Any) -> tuple[bytes, bytes]:
    return found.scores.tobytes(), found.ids.tobytes()


# ---- searches and indexes ------------------------------------------------------------------------


def write_search(folder: Path, seed: int) -> None:
    """A search that was stopped after two of three shards."""

    def stop(done: int, total: int) -> None:
        if done > len(SHARDS[0]) + len(SHARDS[1]):
            raise StoppedError

    queries = QUERIES if seed == 0 else rows(seed, 3)
    try:
        tilefold.search_shards(queries, SHARDS, 4, checkpoint=folder / "search", progress=stop)
    except StoppedError:
        return
    raise AssertionError("the search was not stopped")


def read_search(folder: Path) -> Any:
    return as_bytes(tilefold.search_shards(QUERIES, SHARDS, 4, checkpoint=folder / "search"))


def write_shards(folder: Path, seed: int) -> None:
    documents = rows(seed)
    texts = [str(row) for row in range(N)]
    names = [f"{seed} döc {row}" for row in range(N)]

    def encode(some: list[str]) -> np.ndarray:
        return documents[[int(text) for text in some]]

    model = {"name": f"model {seed}", "pooling": "mean"}
    list(encode_shards(encode, texts, names, folder, num_shards=3, model=model))


def read_corpus(folder: Path) -> Any:
    corpus = open_corpus(folder)
    return as_bytes(corpus.search(QUERIES, 4)), corpus.names, corpus.model, corpus.dim


def write_corpus(folder: Path, seed: int) -> None:
    write_shards(folder.with_name(f"{folder.name} shards"), seed)
    folder.rmdir()
    save_index(folder, folder.with_name(f"{folder.name} shards"))


def write_flat(folder: Path, seed: int) -> None:
    index = tilefold.FlatIndex(DIM)
    index.add(rows(seed))
    index.remove([3, 5])
    index.save(folder)


def read_flat(folder: Path) -> Any:
    index = tilefold.FlatIndex.load(folder)
    answer = as_bytes(index.search(QUERIES, 4)), index.ids.tolist()
    index.add(rows(1, 1))  # with the next id
    return *answer, index.ids.tolist()


def write_strings(folder: Path, seed: int) -> None:
    index = tilefold.FlatIndex(DIM)
    index.add(rows(seed), ids=[f"{seed}-{i}é" for i in range(len(rows(seed)))])
    index.remove(index.ids[[3, 5]])
    index.remove(index.ids[:2], keep=True)
    index.save(folder)


def read_strings(folder: Path) -> Any:
    index = tilefold.FlatIndex.load(folder)
    found = index.search(QUERIES, 4)
    answer = found.scores.tobytes(), found.ids.tolist(), index.ids.tolist()
    index.add(rows(1, 1), ids=["another"])
    return *answer, index.ids.tolist()


def write_hnsw(folder: Path, seed: int) -> None:
    index = tilefold.HnswIndex(DIM)
    index.add(rows(seed))
    index.save(folder)


def read_hnsw(folder: Path) -> Any:
    index = tilefold.HnswIndex.load(folder)
    return as_bytes(index.search(QUERIES, 4)), len(index)


# ---- results -------------------------------------------------------------------------------------


def write_step(folder: Path, seed: int) -> None:
    Steps(folder).once("some step", seed, lambda: {"x": rows(seed), "n": np.array(seed)})


def read_step(folder: Path) -> Any:
    found = Steps(folder).once("some step", 0, lambda: {"x": rows(0), "n": np.array(0)})
    return {name: (array.shape, array.tobytes()) for name, array in found.items()}


def write_result(folder: Path, seed: int) -> None:
    from tilefold.evaluate import Interval
    from tilefold.studies.findings import FINDINGS, FindingsResult, FindingsSettings
    from tilefold.studies.findings.findings_result import Finding
    from tilefold.studies.study_file import write_result

    finding = Finding("spread", Interval(0.25 + seed, 0.125, 0.5), (0.5, float(seed)))
    settings = FindingsSettings(runs=["one", "two"])
    write_result(folder / "f.json", FINDINGS, FindingsResult(settings, {"C1": (finding,)}))


def read_result(folder: Path) -> Any:
    from tilefold.studies.findings import FINDINGS
    from tilefold.studies.study_file import read_result

    return read_result(folder / "f.json", FINDINGS)


def write_rows(folder: Path, seed: int) -> None:
    import torch

    from tilefold.activations import RowStore

    store = RowStore("bfloat16" if seed else "float32", folder=folder, block_rows=24)
    for site in ("layer.0", "layer.1"):
        store.append(site, torch.from_numpy(rows(seed)) + len(site))
    store.flush()


def read_rows(folder: Path) -> Any:
    from tilefold.activations import RowStore

    store = RowStore.open(folder)
    return {site: store[site].tolist() for site in store}


# ---- models and training -------------------------------------------------------------------------


def write_folder(folder: Path, seed: int) -> None:
    """Stands for a model of a world, whose folder is checked in the same way."""
    (folder / "tokenizer.json").write_text(f'{{"seed": {seed}}}')
    (folder / "tower").mkdir()
    (folder / "tower" / "weights.safetensors").write_bytes(rows(seed).tobytes())
    write_digests(folder, f"model {seed}")


def read_folder(folder: Path) -> Any:
    check_digests(folder, "model 0")
    return [
        (folder / name).read_bytes() for name in ("tokenizer.json", "tower/weights.safetensors")
    ]


def training_set(seed: int) -> Any:
    from tilefold.data import TrainingSet
    from tilefold.ragged_lists import Lists

    documents = [f"document {row} of {seed}" for row in range(N)]
    return TrainingSet(
        query_ids=["1", "2", "3"],
        queries=["a", "b", "c"],
        document_ids=[str(row) for row in range(N)],
        documents=documents,
        positives=Lists.pack([[0], [5], [6]]),
        negatives=Lists.pack([[1 + seed, 4], [2], [7, 3]]),
        answers=[()] * 3,
    )


def write_negatives(folder: Path, seed: int) -> None:
    from tilefold.train.checkpoints import save_negatives

    save_negatives(folder, training_set(seed), 40 + seed)


def read_negatives(folder: Path) -> Any:
    from tilefold.train.checkpoints import load_negatives

    found = load_negatives(folder, training_set(0))
    if found is None:
        raise FileNotFoundError(f"{folder} has no negatives")
    (offsets, indices), step = found
    return offsets.tolist(), indices.tolist(), step


KINDS = (
    Kind("search checkpoint", write_search, read_search),
    Kind("encoding", write_shards, read_corpus),
    Kind("index of a corpus", write_corpus, read_corpus),
    Kind("FlatIndex", write_flat, read_flat),
    Kind("FlatIndex of strings", write_strings, read_strings),
    Kind("HnswIndex", write_hnsw, read_hnsw, ("hnswlib",)),
    Kind("study step", write_step, read_step),
    Kind("study result", write_result, read_result, ("torch",), bound=False),
    Kind("row store", write_rows, read_rows, ("torch",)),
    Kind("model of a world", write_folder, read_folder),
    Kind("mined negatives", write_negatives, read_negatives, ("torch", "transformers")),
)
