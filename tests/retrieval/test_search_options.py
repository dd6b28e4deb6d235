"""Every search has the options of SearchOptions, and answers a wrong one with the same error."""

import dataclasses
import inspect

import numpy as np
import pytest

import tilefold
from tilefold.retrieval.hnsw import HnswIndex
from tilefold.retrieval.search_options import SearchOptions

VECTORS = np.eye(4, dtype=np.float32)


def search(**options):
    return tilefold.search(VECTORS, VECTORS, 2, **options)


def search_shards(**options):
    return tilefold.search_shards(VECTORS, [VECTORS[:1], VECTORS[1:]], 2, **options)


def search_index(**options):
    index = tilefold.FlatIndex(4)
    index.add(VECTORS)
    return index.search(VECTORS, 2, **options)


def search_graph(**options):
    pytest.importorskip("hnswlib", reason="pip install tilefold[hnsw]")
    index = HnswIndex(4)
    index.add(VECTORS)
    return index.search(VECTORS, 2, **options)


SEARCHES = {
    "search": (tilefold.search, search),
    "search_shards": (tilefold.search_shards, search_shards),
    "FlatIndex.search": (tilefold.FlatIndex.search, search_index),
    "HnswIndex.search": (HnswIndex.search, search_graph),
}
# Options of search_shards alone.
OF_SHARDS = {"memory_limit", "checkpoint", "verify"}


@pytest.mark.parametrize("op", SEARCHES)
def test_the_signature_shows_every_option_with_its_default(op):
    parameters = inspect.signature(SEARCHES[op][0]).parameters
    shown = {
        name: (parameter.default, parameter.annotation)
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in OF_SHARDS
    }
    fields = [field for field in dataclasses.fields(SearchOptions) if field.name != "op"]
    assert shown == {field.name: (field.default, field.type) for field in fields}
    assert [*shown] == [field.name for field in fields]


WRONG = {
    "allowed": ({"allowed": "all"}, TypeError, "allowed must be an array or a list of ids"),
    "allowed [2, 2]": ({"allowed": np.ones((2, 2), bool)}, ValueError, "allowed must have 1 dim"),
    "exclude": ({"exclude": [[1]]}, ValueError, "exclude must be a list of 4 id lists"),
    "min_score": ({"min_score": "high"}, TypeError, "min_score must be a number"),
    "max_score": ({"max_score": [1.0, 2.0]}, ValueError, "max_score must be a number or have one"),
    "nonfinite": ({"nonfinite": "skip"}, ValueError, 'nonfinite must be "error" or "exclude"'),
    "num_threads": ({"num_threads": 0}, ValueError, "num_threads must be 1 to 1024, got 0"),
    "num_threads 1.5": ({"num_threads": 1.5}, TypeError, "num_threads must be an integer"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("op", SEARCHES)
def test_a_wrong_option_is_named_with_its_operation(op, wrong):
    options, error, message = WRONG[wrong]
    if op == "HnswIndex.search" and options.keys() & {"exclude", "min_score", "max_score"}:
        error, message = NotImplementedError, "not possible with hnswlib"
    with pytest.raises(error, match=f"{op}: .*{message}"):
        SEARCHES[op][1](**options)


def test_options_do_not_change_once_they_are_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SearchOptions(op="search").nonfinite = "skip"


def test_options_are_checked_when_they_are_made():
    with pytest.raises(ValueError, match='mine: nonfinite must be "error" or "exclude", got 3'):
        SearchOptions(op="mine", nonfinite=3)
