"""Drawing policies: several positives, teacher scores and views that a batch carries."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from dataclasses import replace

from training_runs import a_set

from tilefold.ragged_lists import Lists
from tilefold.train import Draw, DrawSeveral, DrawViews


def drawn(batch) -> list[tuple[list[str], list[str]]]:
    """Positives and negatives of each query of a batch with lists of positives."""
    offsets, indices = (part.tolist() for part in batch.positives)
    starts = [indices[i] for i in offsets[:-1]] + [len(batch.documents)]
    return [
        (
            [batch.documents[i] for i in indices[offsets[row] : offsets[row + 1]]],
            batch.documents[starts[row] + offsets[row + 1] - offsets[row] : starts[row + 1]],
        )
        for row in range(len(batch.queries))
    ]


def test_all_positives_are_drawn_in_the_order_of_the_file():
    data = a_set(6, positives=3)
    batch = DrawSeveral(data, n_negatives=2, seed=0).batch([4, 1], step=3)
    for row, (positives, negatives) in zip([4, 1], drawn(batch), strict=True):
        assert positives == [data.documents[i] for i in data.positives.of(row)]
        assert sorted(negatives) == sorted(data.documents[i] for i in data.negatives.of(row))


def test_up_to_some_number_of_positives_are_drawn_without_replacement():
    data = a_set(8, positives=4)
    policy = DrawSeveral(data, max_positives=2, n_negatives=1, seed=0)
    seen = set()
    for step in range(60):
        ((positives, negatives),) = drawn(policy.batch([5], step=step))
        assert len(set(positives)) == 2
        assert len(negatives) == 1
        seen |= set(positives)
    assert seen == {data.documents[i] for i in data.positives.of(5)}


def test_several_positives_depend_on_seed_step_and_query_alone():
    data = a_set(positives=4)

    def draw(rows, *, seed=1, step=7):
        policy = DrawSeveral(data, max_positives=2, n_negatives=1, seed=seed)
        return drawn(policy.batch(rows, step=step))

    rows = list(range(24))
    assert draw(rows) == draw(rows[::-1])[::-1]
    assert draw(rows)[3:9] == draw(rows[3:9])
    assert draw(rows) != draw(rows, step=8)
    assert draw(rows) != draw(rows, seed=2)


def test_queries_with_few_positives_contribute_few():
    data = replace(a_set(3), positives=Lists.pack([[0], [1, 2], [2, 0, 1]]))
    batch = DrawSeveral(data, max_positives=2, n_negatives=0, seed=0).batch([0, 1, 2], step=0)
    assert batch.positives[0].tolist() == [0, 1, 3, 5]
    first = DrawSeveral(data, max_positives=2, n_negatives=0, seed=0, first_positives=True)
    assert drawn(first.batch([2], step=0))[0][0] == [data.documents[2], data.documents[0]]


def test_siblings_are_no_negatives_of_each_other():
    data = a_set(6, positives=3)
    batch = DrawSeveral(data, n_negatives=2, seed=0).batch([0, 3], step=0)
    # Query 0 has positives 0, 1, 2 and query 3 has 3, 4, 5: ten passages, seven without its own.
    assert batch.negatives() == 7


def test_other_data_are_drawn_from_by_the_same_policy():
    data = a_set(6, positives=3)
    others = data.with_negatives(Lists.pack([[12 + i] for i in range(6)]))
    for policy in (
        DrawSeveral(data, max_positives=2, n_negatives=1, seed=0, first_negatives=True),
        Draw(data, group_size=3, seed=4, first_positive=True),
        DrawViews(Draw(data, group_size=2, seed=0), [["a", "b"]] * 6, n_views=1, seed=5),
    ):
        again = policy.with_data(others)
        assert again.data is others
        assert [type(again), again.seed] == [type(policy), policy.seed]
        before, after = (p.batch([2], step=3) for p in (policy, again))
        assert after.documents[-1] == data.documents[14]
        assert before.documents[0] == after.documents[0]
        assert before.query_views == after.query_views


def test_a_batch_carries_the_teachers_scores_of_what_was_drawn():
    data = a_set(6, positives=2)
    scored = replace(data, positive_scores=np.arange(12.0), negative_scores=100 + np.arange(12.0))
    table = {
        (row, data.documents[i]): score
        for lists, scores in (
            (data.positives, scored.positive_scores),
            (data.negatives, scored.negative_scores),
        )
        for row, i, score in zip(lists.owners(), lists.indices, scores, strict=True)
    }
    for policy in (
        Draw(scored, group_size=2, seed=3),
        DrawSeveral(scored, max_positives=1, n_negatives=2, seed=3),
    ):
        rows = [5, 0, 2]
        batch = policy.batch(rows, step=1)
        offsets, indices, scores = (part.tolist() for part in batch.teacher)
        assert len(indices) == len(batch.documents)
        for number, row in enumerate(rows):
            for place in range(offsets[number], offsets[number + 1]):
                assert scores[place] == table[row, batch.documents[indices[place]]]
    assert Draw(data, group_size=2, seed=3).batch([0], step=1).teacher is None


def test_views_are_drawn_and_filled_with_the_query_itself():
    data = a_set(4)
    rewrites = [[f"{row}{letter}" for letter in "abcd"[:row]] for row in range(4)]
    policy = DrawViews(Draw(data, group_size=2, seed=0), rewrites, n_views=2, seed=0)
    seen = set()
    for step in range(40):
        batch = policy.batch([3, 0, 1], step=step)
        one, two = batch.query_views
        assert one[0] != two[0]
        seen |= {one[0], two[0]}
        assert (one[1], two[1]) == (data.queries[0],) * 2
        assert (one[2], two[2]) == ("1a", data.queries[1])
        assert batch.documents == Draw(data, group_size=2, seed=0).batch([3, 0, 1], step=step)[1]
    assert seen == {"3a", "3b", "3c"}


def test_policies_that_cannot_draw_are_refused():
    data = a_set(4)
    with pytest.raises(ValueError, match="DrawSeveral: max_positives must be 1 or more or None"):
        DrawSeveral(data, max_positives=0, n_negatives=1, seed=0)
    with pytest.raises(ValueError, match="DrawSeveral: n_negatives must be 0 or more, got -1"):
        DrawSeveral(data, n_negatives=-1, seed=0)
    policy = Draw(data, group_size=1, seed=0)
    with pytest.raises(ValueError, match="DrawViews: expected rewrites of 4 queries, got 3"):
        DrawViews(policy, [[]] * 3, n_views=1, seed=0)
    with pytest.raises(ValueError, match="DrawViews: n_views must be 1 or more, got 0"):
        DrawViews(policy, [[]] * 4, n_views=0, seed=0)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_group_has_one_passage_or_more(size, error):
    with pytest.raises(error, match="group_size must be"):
        Draw(a_set(), group_size=size, seed=0)


def test_numbers_of_positives_and_negatives_are_integers():
    with pytest.raises(TypeError, match="n_negatives must be an integer, got float"):
        DrawSeveral(a_set(), n_negatives=1.5, seed=0)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([5], "rows must be 0 to 3, got 5"),
        ([0, -1], "rows must be 0 to 3, got -1"),
        ([1.5], r"rows must be a sequence of integers, got \[1.5\]"),
        (["q"], "rows must be a sequence of integers"),
        ([[0], [1]], "rows must be a sequence of integers"),
        ([True], "rows must be a sequence of integers"),
    ],
)
@pytest.mark.parametrize("name", ["Draw", "DrawSeveral", "DrawViews"])
def test_rows_that_are_no_queries_are_named(name: str, rows, complaint: str):
    data = a_set(4, positives=2)
    policies = {
        "Draw": Draw(data, group_size=2, seed=0),
        "DrawSeveral": DrawSeveral(data, n_negatives=1, seed=0),
    }
    policies["DrawViews"] = DrawViews(policies["Draw"], [["?"]] * 4, n_views=1, seed=0)
    with pytest.raises(ValueError, match=f"{name}: {complaint}"):
        policies[name].batch(rows, step=0)


@pytest.mark.parametrize(
    "policy",
    [
        lambda data, seed: Draw(data, group_size=2, seed=seed),
        lambda data, seed: DrawSeveral(data, n_negatives=1, seed=seed),
        lambda data, seed: DrawViews(
            Draw(data, group_size=2, seed=0), [["a"]] * len(data), n_views=1, seed=seed
        ),
    ],
    ids=["Draw", "DrawSeveral", "DrawViews"],
)
def test_seeds_steps_and_rows_out_of_range_are_named(policy, request):
    op, data = request.node.callspec.id, a_set(5)
    for seed, step, row, message in (
        (-1, 0, 0, "seed must be 0 or more, got -1"),
        (0, -1, 0, "step must be 0 or more, got -1"),
        (0, 0, -1, "rows must be 0 to 4, got -1"),
        (0, 0, 5, "rows must be 0 to 4, got 5"),
    ):
        with pytest.raises(ValueError, match=f"^{op}: {message}"):
            policy(data, seed).batch([row], step=step)
