"""Mistakes of users that both type checkers must report, each in the line with `# error`."""

from typing import assert_type

import numpy as np
from torch import Tensor

import tilefold
from tilefold.evaluate import bootstrap
from tilefold.losses import ContrastiveLoss, contrastive_loss
from tilefold.train.arguments import RetrieverTrainingArguments


def search() -> None:
    documents = np.zeros((4, 8), np.float32)
    tilefold.search(documents, documents)  # error: k is missing
    tilefold.search(documents, documents, k="3")  # error: k is a string
    tilefold.search(documents, documents, 3, top_k=3)  # error: a name of other libraries
    result = tilefold.search(documents, documents, 3, return_certificate=True)
    _scores, _ids = result  # error: it has three parts
    plain = tilefold.search(documents, documents, 3)
    _certificate = plain.certificate  # error: nothing was certified
    index = tilefold.FlatIndex("8")  # error: dim is a string
    index.search(documents, 3, None)  # error: filters have names
    index.find(documents)  # error: there is no such method


def measure() -> None:
    assert_type(bootstrap([0.5]).low, int)  # error: it is a float


def loss(queries: Tensor, targets: Tensor) -> float:
    contrastive_loss(queries, targets, targets, temperature="low")  # error: it is a string
    ContrastiveLoss(0.05, reduction=1)  # error: reduction is a string
    return contrastive_loss(queries, targets, targets)  # error: it is a tensor


def train() -> object:
    arguments = RetrieverTrainingArguments(output_dir="out", grad_cache=True)
    return arguments.grad_cahce  # error: a mistyped name
