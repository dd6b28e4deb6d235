"""invariant_candidates against loops over numbers: values, ties, lists, blocks, bad input."""

import itertools
import math
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[torch]")

from tilefold.losses import invariance_loss, invariant_candidates


def numbers(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def chosen(q: Any, d: Any, row: int, candidates: list[int], top: int, beta: float) -> list[int]:
    """The invariant candidates of a query, in loops, at temperature 0.5."""
    probabilities = []
    for s in range(len(q)):
        documents = d[s] if d.ndim == 3 else d
        scores = [
            sum(float(a) * float(b) for a, b in zip(q[s, row], documents[i], strict=True)) / 0.5
            for i in candidates
        ]
        total = sum(math.exp(score) for score in scores)
        probabilities.append([math.exp(score) / total for score in scores])
    values = []
    for column in zip(*probabilities, strict=True):
        mean = sum(column) / len(column)
        variance = sum((p - mean) ** 2 for p in column) / len(column)
        values.append(mean - beta * math.sqrt(variance))
    order = sorted(range(len(candidates)), key=lambda place: (-values[place], place))
    return sorted(candidates[place] for place in order[:top])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("top", "beta"), [(1, 1.0), (3, 0.0), (3, 2.5), (40, 1.0)])
def test_choices_over_the_batch_are_those_of_loops(shared, top, beta):
    q, d = numbers(3, 5, 4), numbers(17, 4, seed=1) if shared else numbers(3, 17, 4, seed=1)
    offsets, indices = invariant_candidates(q, d, top=top, beta=beta, temperature=0.5)
    assert offsets.tolist() == [min(top, 17) * row for row in range(6)]
    for row, (a, b) in enumerate(itertools.pairwise(offsets.tolist())):
        assert indices[a:b].tolist() == chosen(q, d, row, list(range(17)), top, beta)


@pytest.mark.parametrize(("top", "beta"), [(1, 1.0), (2, 0.0), (3, 2.5)])
def test_choices_among_lists_are_those_of_loops(top, beta):
    q, d = numbers(2, 4, 4), numbers(17, 4, seed=1)
    lists = [[0, 3, 4, 16], [], [2, 5], [1, 6, 7, 8, 9, 10]]
    offsets = torch.tensor([0, 4, 4, 6, 12])
    listed = torch.tensor([i for part in lists for i in part])
    kept = invariant_candidates(
        q, d, top=top, beta=beta, candidates=(offsets, listed), temperature=0.5
    )
    assert kept.dtype == torch.bool
    for row, (a, b) in enumerate(itertools.pairwise(offsets.tolist())):
        found = listed[a:b][kept[a:b]].tolist()
        assert found == chosen(q, d, row, lists[row], top, beta)


def test_the_standard_deviation_decides_between_equal_means():
    q = torch.tensor([[[3.0, 2.0, 0.0]], [[0.0, 2.0, 3.0]]])
    assert invariant_candidates(q, torch.eye(3), top=1)[1].tolist() == [1]
    assert invariant_candidates(q, torch.eye(3), top=1, beta=0.0)[1].tolist() == [0]


def test_of_equal_values_the_first_are_invariant():
    offsets, indices = invariant_candidates(torch.ones(2, 3, 4), torch.ones(6, 4), top=2)
    assert (offsets.tolist(), indices.tolist()) == ([0, 2, 4, 6], [0, 1] * 3)


def test_of_values_equal_to_the_last_the_first_are_invariant():
    """One document is above the others, of which the first two complete the three."""
    q = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])
    d = torch.tensor([[1.0, -1], [1, 0], [0, 0], [0, 2], [1, 0], [0, -1]])
    assert invariant_candidates(q, d, top=3)[1].tolist() == [1, 2, 3]
    assert invariant_candidates(q, d, top=4)[1].tolist() == [1, 2, 3, 4]


def test_blocks_choose_as_the_whole_batch_does(monkeypatch):
    q, d = numbers(2, 9, 8), numbers(30, 8, seed=1)
    whole = invariant_candidates(q, d, top=4)
    module = sys.modules["tilefold.losses.invariant_candidates"]  # the package has the function
    monkeypatch.setattr(module, "_NUMBERS", 2 * 30 * 2)
    monkeypatch.setattr(module, "_ROWS", 7)
    blocks = invariant_candidates(q, d, top=4)
    assert all(torch.equal(a, b) for a, b in zip(whole, blocks, strict=True))


def test_the_loss_takes_what_is_chosen_and_no_graph_remains():
    q, d = numbers(2, 5, 8).requires_grad_(), numbers(30, 8, seed=1).requires_grad_()
    groups = torch.arange(30).reshape(5, 6)
    for lists in ({}, {"candidates": groups}):
        kept = invariant_candidates(q, d, top=4, **lists)
        assert not any(x.requires_grad for x in (kept if isinstance(kept, tuple) else (kept,)))
        found = invariance_loss(q, d, invariant=kept, **lists)
        assert found.mass.min() > 0
        assert found.mass.max() < 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top": 0}, ValueError, "top must be at least 1, got 0"),
        ({"top": 1.5}, TypeError, "top must be an integer, got float"),
        ({"top": 1, "beta": -1.0}, ValueError, "beta must be 0 or more and finite, got -1"),
        ({"top": 1, "beta": math.nan}, ValueError, "beta must be 0 or more and finite, got nan"),
        ({"top": 1, "temperature": 0.0}, ValueError, "temperature must be positive"),
        ({"top": 1, "candidates": torch.full((2, 1), 9)}, ValueError, "candidates"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options, error, message):
    with pytest.raises(error, match=f"^invariant_candidates: .*{message}"):
        invariant_candidates(numbers(2, 2, 4), numbers(5, 4), **options)


def test_views_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"queries must have shape \[views, rows, dim\], got \(2"):
        invariant_candidates(numbers(2, 4), numbers(5, 4), top=1)
    with pytest.raises(ValueError, match="documents are of 3 views, but queries of 2"):
        invariant_candidates(numbers(2, 2, 4), numbers(3, 5, 4), top=1)
    broken = numbers(2, 2, 4)
    broken[1, 0] = math.inf
    with pytest.raises(ValueError, match="queries of view 1 have a NaN or an infinity in row 0"):
        invariant_candidates(broken, numbers(5, 4), top=1)
