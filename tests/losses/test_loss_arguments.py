"""Scalar arguments of every loss keep their precision; lists come in every form."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ragged import csr
from tilefold.losses import (
    AlignmentLoss,
    ContrastiveLoss,
    InvarianceLoss,
    alignment_loss,
    contrastive_loss,
    count_negatives,
    invariance_loss,
)

N, M, DIM = 6, 15, 8
ROWS = torch.arange(N)


def vectors(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.3


Q, D = vectors(N, DIM), vectors(M, DIM, seed=1)
TEACHER = vectors(N, DIM, seed=2), vectors(M, DIM, seed=3)
VIEWS = vectors(3, N, DIM, seed=4)
LISTED = torch.arange(N * 4).reshape(N, 4) % M
LOSSES: dict[str, Any] = {
    "contrastive": lambda **scale: contrastive_loss(Q, D, ROWS, **scale),
    "contrastive, none": lambda **s: contrastive_loss(Q, D, ROWS, reduction="none", **s),
    "contrastive, symmetric": lambda **s: contrastive_loss(Q, D, ROWS, symmetric=True, **s),
    "alignment": lambda **scale: alignment_loss((Q, D), TEACHER, **scale),
    "alignment of lists": lambda **s: alignment_loss((Q, D), TEACHER, candidates=LISTED, **s),
    "alignment of scores": lambda **s: alignment_loss(Q, TEACHER[0], **s),
    "consistency": lambda **scale: invariance_loss(VIEWS, D, **scale).loss,
    "consistency of lists": lambda **s: invariance_loss(VIEWS, D, candidates=LISTED, **s).loss,
    "risk": lambda **scale: invariance_loss(VIEWS, D, ROWS, form="risk", **scale).loss,
    "variance": lambda **scale: invariance_loss(VIEWS, D, ROWS, form="variance", **scale).loss,
}
SCALES: list[dict[str, float]] = [
    {"temperature": 0.05},
    {"temperature": 1 / 3},
    {"log_scale": 1.1},
    {"temperature": 1e39},
]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_numbers_of_python_reach_float64_losses_in_float64(name, scale):
    as_tensors = {key: torch.tensor(v, dtype=torch.float64) for key, v in scale.items()}
    assert torch.equal(LOSSES[name](**scale), LOSSES[name](**as_tensors))
    assert torch.isfinite(LOSSES[name](**scale)).all()


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_float64_losses_equal_the_formula_to_float64(scale):
    factor = np.exp(scale["log_scale"]) if "log_scale" in scale else 1 / scale["temperature"]
    expected = torch.nn.functional.cross_entropy(Q @ D.T * factor, ROWS)
    torch.testing.assert_close(contrastive_loss(Q, D, ROWS, **scale), expected, rtol=1e-14, atol=0)


def test_the_teachers_temperature_keeps_its_precision():
    for value in (0.05, 1e39):
        exact = torch.tensor(value, dtype=torch.float64)
        for options in ({}, {"candidates": LISTED}):
            found = alignment_loss((Q, D), TEACHER, teacher_temperature=value, **options)
            expected = alignment_loss((Q, D), TEACHER, teacher_temperature=exact, **options)
            assert torch.equal(found, expected)


def test_modules_pass_numbers_on_as_they_are():
    for value in (0.05, 1e39):
        exact = torch.tensor(value, dtype=torch.float64)
        assert torch.equal(
            ContrastiveLoss(value)(Q, D), contrastive_loss(Q, D, ROWS, temperature=exact)
        )
        assert torch.equal(
            AlignmentLoss(value, teacher_temperature=value)((Q, D), TEACHER),
            alignment_loss((Q, D), TEACHER, temperature=exact, teacher_temperature=exact),
        )
        assert torch.equal(
            InvarianceLoss(temperature=value)(VIEWS, D),
            invariance_loss(VIEWS, D, temperature=exact).loss,
        )


@pytest.mark.parametrize(
    "value", [np.float64(0.05), np.float32(0.05), np.array(0.05), np.array([0.05]), 2, [0.05]]
)
def test_numbers_of_other_libraries_keep_their_value(value):
    exact = torch.tensor(float(np.asarray(value).reshape(())), dtype=torch.float64)
    found = contrastive_loss(Q, D, ROWS, temperature=value)
    assert torch.equal(found, contrastive_loss(Q, D, ROWS, temperature=exact))


def test_modules_take_numbers_of_numpy():
    for value in (np.float32(0.05), np.float64(0.05), 1, Fraction(1, 20)):
        found = ContrastiveLoss(value)(Q, D)
        exact = torch.tensor(float(value), dtype=torch.float64)
        assert torch.equal(found, contrastive_loss(Q, D, ROWS, temperature=exact))


def test_float32_losses_refuse_temperatures_that_leave_their_range():
    for value in (1e39, 1e-39):
        with pytest.raises(ValueError, match="temperature must be positive and log_scale finite"):
            contrastive_loss(Q.float(), D.float(), ROWS, temperature=value)


@pytest.mark.parametrize("value", [0, 0.0, -0.5, float("nan"), float("inf"), -0.0])
def test_a_temperature_that_is_not_positive_is_shown_as_it_was_given(value):
    for name, loss in LOSSES.items():
        op = name.partition(" ")[0].partition(",")[0].replace("consistency", "invariance")
        op = {"risk": "contrastive", "variance": "contrastive"}.get(op, op)
        message = f"^{op}_loss: temperature must be positive and finite, got {value}$"
        with pytest.raises(ValueError, match=message):
            loss(temperature=value)
    with pytest.raises(ValueError, match=f"teacher_temperature must be positive .* got {value}$"):
        alignment_loss((Q, D), TEACHER, teacher_temperature=value)
    with pytest.raises(ValueError, match=f"AlignmentLoss: teacher_temperature .* got {value}$"):
        AlignmentLoss(teacher_temperature=value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_log_scale_that_is_not_finite_is_shown_as_it_was_given(value):
    with pytest.raises(ValueError, match=f"log_scale must be finite, got {value}"):
        contrastive_loss(Q, D, ROWS, log_scale=value)


@pytest.mark.parametrize(
    "value", ["0.05", [0.1, 0.2], object(), {}], ids=lambda v: type(v).__name__
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises((TypeError, ValueError), match="contrastive_loss: temperature must be"):
        contrastive_loss(Q, D, ROWS, temperature=value)


# ---- lists ---------------------------------------------------------------------------------------

LISTS = [[1], [], [2, 3], [], [5], [0, 7, 8]]
POSITIVES = [[0], [1, 2], [2], [3], [4], [9, 5]]
FORMS: dict[str, Any] = {
    "lists": lambda lists: lists,
    "tuples": lambda lists: tuple(tuple(part) for part in lists),
    "NumPy": lambda lists: tuple(part.numpy() for part in csr(lists)),
    "offsets and a list": lambda lists: (csr(lists)[0], csr(lists)[1].tolist()),
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_come_in_every_form(form):
    ids = torch.arange(M) % 9
    options = {"exclude": LISTS, "exclude_ids": LISTS, "document_ids": ids}

    def loss(convert: Any) -> Tensor:
        lists = {n: v if n == "document_ids" else convert(v) for n, v in options.items()}
        return contrastive_loss(Q, D, convert(POSITIVES), **lists)

    assert torch.equal(loss(FORMS[form]), loss(csr))
    counts = count_negatives(M, FORMS[form](POSITIVES), exclude=FORMS[form](LISTS))
    assert torch.equal(counts, count_negatives(M, csr(POSITIVES), exclude=csr(LISTS)))
    aligned = alignment_loss((Q, D), TEACHER, candidates=FORMS[form](POSITIVES))
    assert torch.equal(aligned, alignment_loss((Q, D), TEACHER, candidates=csr(POSITIVES)))


def test_candidates_of_numpy_are_taken():
    found = alignment_loss((Q, D), TEACHER, candidates=LISTED.numpy())
    assert torch.equal(found, alignment_loss((Q, D), TEACHER, candidates=LISTED))


@pytest.mark.parametrize(
    ("lists", "error", "message"),
    [
        (LISTS[:5], ValueError, "offsets of exclude must have 7 elements, one more than queries"),
        ([[1.5], *LISTS[1:]], TypeError, "exclude must be lists of integers, one list per query"),
        ([["a"], *LISTS[1:]], TypeError, "exclude must be lists of integers"),
        ([[M], *LISTS[1:]], ValueError, "indices of documents, 0 to 14, got 15 for query 0"),
        ([[2**70], *LISTS[1:]], TypeError, "exclude must be lists of integers"),
        ([1, *LISTS[1:]], TypeError, "exclude must be lists of integers"),
    ],
)
def test_lists_that_cannot_be_used_are_named(lists, error, message):
    with pytest.raises(error, match=f"^contrastive_loss: .*{message}"):
        contrastive_loss(Q, D, ROWS, exclude=lists)


def test_one_view_has_no_variance():
    view = VIEWS[:1]
    assert invariance_loss(view, D).loss == 0
    assert invariance_loss(view, D, ROWS, form="variance").loss == 0
    risk = invariance_loss(view, D, ROWS, form="risk")
    assert torch.equal(risk.loss, contrastive_loss(VIEWS[0], D, ROWS))
    with pytest.raises(ValueError, match=r"must have shape \[views, rows, dim\], got \(6, 8\)"):
        invariance_loss(VIEWS[0], D)
