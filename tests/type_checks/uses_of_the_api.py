"""A user's program over the public names, checked as written by mypy --strict and by pyright."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from torch import Tensor, nn

import tilefold
from tilefold.activations import ActivationStatistics, capture, patch
from tilefold.data import Collection, read_beir
from tilefold.evaluate import Interval, bootstrap, evaluate, mean, paired_test
from tilefold.losses import ContrastiveLoss, alignment_loss, contrastive_loss, invariance_loss
from tilefold.mining import Mined, mine
from tilefold.models import BiEncoder, minilm
from tilefold.ragged_lists import Lists
from tilefold.train import ContrastiveObjective, RetrieverTrainer
from tilefold.train.arguments import RetrieverTrainingArguments


def search_arrays(folder: Path) -> None:
    documents = np.zeros((100, 8), np.float32)
    _scores, _ids = tilefold.search(documents[:2], documents, 3)
    result = tilefold.search(documents[:2], documents, k=3, exclude=[[0], []], metric="cosine")
    assert_type(result, tilefold.SearchResult)
    certified = tilefold.search(documents[:2], documents, k=3, return_certificate=True)
    assert_type(certified, tilefold.CertifiedResult)
    assert_type(certified.certificate.holds, bool)
    _offsets, _scores, _ids = tilefold.range_search(documents[:2], documents, min_score=0.5)

    index = tilefold.FlatIndex(8, metric="cosine")
    index.add(documents, ids=[f"d{i}" for i in range(100)])
    _scores, _ids = index.search(documents[:2], k=3, exclude=[["d1"], []])
    assert_type(index.search(documents[:2], k=3), tilefold.SearchResult)
    found = index.search(documents[:2], k=3, return_certificate=True)
    assert_type(found, tilefold.CertifiedResult)
    assert_type(index.range_search(documents[:2], 0.5), tilefold.RangeResult)
    assert_type(len(index), int)
    assert_type("d1" in index, bool)
    index.remove(["d1"])
    index.save(folder)
    assert_type(tilefold.FlatIndex.load(folder), tilefold.FlatIndex)

    check = bool(len(index))
    either = index.search(documents[:2], k=3, return_certificate=check)
    assert_type(either, tilefold.SearchResult | tilefold.CertifiedResult)
    _scores, _ids = tilefold.search_shards(documents[:2], [documents, documents], k=3)
    tilefold.set_num_threads(2)
    assert_type(tilefold.get_num_threads(), int)


def compute_losses(queries: Tensor, documents: Tensor, positives: Tensor) -> Tensor:
    loss = contrastive_loss(queries, documents, positives, temperature=0.05, symmetric=True)
    assert_type(loss, Tensor)
    contrastive_loss(queries, documents, [[0, 2], [1]], exclude=[[1], []])
    aligned = alignment_loss((queries, documents), (queries, documents), temperature=0.05)
    assert_type(aligned, Tensor)
    agreed = invariance_loss(torch.stack([queries, queries]), documents, temperature=0.05)
    assert_type(agreed.loss, Tensor)
    module: nn.Module = ContrastiveLoss(0.05, learn_temperature=True)
    return loss + aligned + agreed.loss + sum(p.sum() for p in module.parameters())


def read_activations(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with capture(model, ["encoder.layer.0"], top=5, histogram=True) as statistics:
        model(**inputs)
    assert_type(statistics["encoder.layer.0"], ActivationStatistics)
    with patch(model, {"encoder.layer.0": lambda value: value}):
        model(**inputs)
    return statistics["encoder.layer.0"].mean


def measure(folder: Path) -> Interval:
    collection = read_beir(folder)
    assert_type(collection, Collection)
    ids = np.zeros((1, 10), np.int64)
    judgments = (np.array([0, 1]), np.array([0]), np.array([1]))
    values = evaluate(ids, judgments, ["nDCG@10", "RR@10"])
    assert_type(mean(values["nDCG@10"]), float)
    paired_test(values["nDCG@10"], values["RR@10"])
    return bootstrap(values["nDCG@10"], seed=0)


def train(folder: Path) -> None:
    model = BiEncoder(minilm())
    embeddings = model.encode_queries(["a question"])
    arguments = RetrieverTrainingArguments(output_dir=str(folder), grad_cache=True)
    objective = ContrastiveObjective(model, ContrastiveLoss(0.05))
    trainer: type[RetrieverTrainer] = RetrieverTrainer
    assert_type(arguments.grad_cache, bool)
    mined = mine(embeddings, embeddings, positives=Lists.pack([[0]]), n_negatives=1)
    assert_type(mined, Mined)
    used: list[Any] = [objective, trainer]
    assert used
