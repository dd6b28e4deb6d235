"""Probes: what each can learn, what the published one cannot, and scikit-learn's conventions."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from scipy import stats
from sklearn.base import clone

from tilefold.data import TrainingSet
from tilefold.mechanisms import (
    BilinearProbe,
    Candidates,
    ConcatenationProbe,
    DotProductProbe,
    InteractionProbe,
    compare_with_base,
    present,
    shuffle_queries,
)
from tilefold.mechanisms.probing.candidates import paraphrases
from tilefold.ragged_lists import Lists

pytestmark = pytest.mark.usefixtures("one_thread")
DIM, N = 8, 1200
PROBES = [ConcatenationProbe, BilinearProbe, InteractionProbe, DotProductProbe]


def matching(seed: int = 0) -> np.ndarray:
    """Relevant passages are like their query, and like nothing else in particular."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 6, DIM)).astype(np.float32)
    x[:, 1] = x[:, 0] + 0.3 * x[:, 1]
    return x


def marked(seed: int = 0) -> np.ndarray:
    """Relevant passages have a mark of their own, whatever the query."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 6, DIM)).astype(np.float32)
    x[:, 1, 0] += 3
    return x


def accuracy(probe, x: np.ndarray, n: int) -> float:
    fitted = probe(n, epochs=100).fit(x[: N // 2])
    return fitted.score(*present(x[N // 2 :], n, seed=9))


# ---- what they learn -----------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [BilinearProbe, InteractionProbe, DotProductProbe])
def test_probes_that_compare_find_what_matches(probe):
    assert accuracy(probe, matching(), 3) > 0.8


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_published_probe_cannot_use_the_query(n):
    assert accuracy(ConcatenationProbe, matching(), n) < 1 / n + 0.08


@pytest.mark.parametrize("n", [2, 5])
def test_the_published_probe_finds_a_mark(n):
    assert accuracy(ConcatenationProbe, marked(), n) > 0.8


def test_queries_of_others_take_away_what_matches_and_leave_a_mark():
    assert accuracy(BilinearProbe, shuffle_queries(matching()), 2) < 0.6
    assert accuracy(ConcatenationProbe, shuffle_queries(marked()), 2) > 0.8


def test_the_published_probe_is_its_formula():
    x, places = present(marked(), 3)
    probe = ConcatenationProbe(3, epochs=1).fit(marked())
    flat = (x / probe.scale_).reshape(len(x), -1)
    scores = flat @ probe.coef_.T + probe.module_.linear.bias.detach().numpy()
    np.testing.assert_allclose(probe.decision_function(x), scores, rtol=1e-4, atol=1e-4)
    assert probe.coef_.shape == (3, 4 * DIM)
    assert probe.score(x, places) == (probe.predict(x) == places).mean()


def test_the_other_probes_are_their_formulas():
    x, _ = present(matching(), 2)
    q, p = x[:, 0], x[:, 1:]
    dot = DotProductProbe(2).fit(matching())
    np.testing.assert_allclose(
        dot.decision_function(x) * dot.scale_**2,
        np.einsum("nd,ncd->nc", q, p),
        rtol=1e-3,
        atol=1e-4,
    )
    bilinear = BilinearProbe(2, epochs=1).fit(matching())
    matrix = bilinear.module_.matrix.detach().numpy()
    expected = np.einsum("ni,ij,ncj->nc", q, matrix, p) / bilinear.scale_**2
    np.testing.assert_allclose(bilinear.decision_function(x), expected, rtol=1e-3, atol=1e-4)
    shared = InteractionProbe(2, epochs=1).fit(matching())
    swapped = x[:, [0, 2, 1]]
    np.testing.assert_allclose(
        shared.decision_function(x)[:, ::-1],
        shared.decision_function(swapped),
        rtol=1e-4,
        atol=1e-5,
    )


# ---- conventions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_is_a_classifier_of_scikit_learn(probe):
    first = probe(2, epochs=2, random_state=7)
    again = clone(first)
    assert again.get_params() == first.get_params()
    x, shown = marked(), present(marked(), 2)[0]
    one, other = (p.fit(x).decision_function(shown) for p in (first, again))
    np.testing.assert_array_equal(one, other)
    assert first.n_features_in_ == DIM
    assert first.classes_.tolist() == [0, 1]


def test_the_relevant_passage_may_stand_anywhere():
    x = marked()
    turned = x[:, [0, 2, 3, 1, 4, 5]]
    probe = ConcatenationProbe(2, epochs=60).fit(turned, np.full(N, 2))
    assert probe.score(*present(turned, 2, y=np.full(N, 2))) > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConcatenationProbe(4).fit(np.zeros((9, 4, 2))), "with 4 or more passages, got"),
        (lambda: ConcatenationProbe(2).fit(np.zeros((1, 4, 2))), "expected 2 samples or more"),
        (lambda: DotProductProbe(2).fit(matching()).predict(matching()), "with 2 passages, got"),
        (lambda: present(matching(), 6), "n_candidates must be 2 to 5, got 6"),
        (lambda: present(matching(), 1), "n_candidates must be 2 to 5, got 1"),
        (lambda: compare_with_base(np.ones(2, bool), np.ones(3, bool)), "got 2 and 3"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- samples -------------------------------------------------------------------------------------


def test_a_query_is_shown_with_its_own_passages_in_any_order():
    x = np.arange(40 * 6, dtype=np.float32).reshape(40, 6, 1)
    shown, places = present(x, 3, seed=1)
    assert (shown[:, 0] == x[:, 0]).all()
    assert (shown[np.arange(40), 1 + places] == x[:, 1]).all()
    for row in range(40):
        assert len(set(shown[row, :, 0])) == 4
        assert set(shown[row, :, 0]) <= set(x[row, :, 0])
    assert set(places) == {0, 1, 2}


def test_samples_are_of_queries_with_hard_negatives():
    data = TrainingSet(
        ["a", "b", "c"],
        ["1", "2", "3"],
        list("uvwxyz"),
        list("uvwxyz"),
        Lists.pack([[0, 1], [2], [3]]),
        Lists.pack([[4, 5], [], [0, 1, 2, 4, 5]]),
        [()] * 3,
    )
    found = Candidates.of(data)
    assert found.queries.tolist() == [0, 0, 2]
    assert found.passages[:, 0].tolist() == [0, 1, 3]
    assert set(found.passages[0, 1:]) <= {4, 5}  # fewer than 4: with replacement
    assert len(set(found.passages[2])) == 5  # enough: without
    train, held = found.split(0.5)
    assert not set(train.queries) & set(held.queries)
    assert len(train.queries) + len(held.queries) == 3
    rows = np.arange(6, dtype=np.float32)[:, None]
    assert found.features(rows[:3], rows)[2, :2, 0].tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="no query has a hard negative"):
        Candidates.of(data.take([1]))


def asking(positives: list[list[int]]) -> TrainingSet:
    """Queries with these relevant passages of 40, and two hard negatives each."""
    names = [str(row) for row in range(len(positives))]
    passages = [str(place) for place in range(40)]
    hard = Lists.pack([[38, 39]] * len(positives))
    data = names, names, passages, passages, Lists.pack(positives), hard
    return TrainingSet(*data, [()] * len(positives))


def test_paraphrases_ask_for_the_same_passages():
    data = asking([[1], [2], [2, 3], [3, 2], [1], [1]])
    assert paraphrases(data) == [[0, 4, 5], [2, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_paraphrases_are_on_one_side(seed):
    data = asking([[row % 20] for row in range(36)])  # two queries each, of 16
    samples = Candidates.of(data)
    groups = paraphrases(data)
    assert len(groups) == 16
    train, held = samples.split(0.3, groups=groups, seed=seed)
    assert len(train.queries) + len(held.queries) == 36
    assert not set(train.passages[:, 0]) & set(held.passages[:, 0])
    assert len(set(held.passages[:, 0])) == 6  # a share of the groups
    alone, apart = samples.split(0.3, seed=seed)
    assert set(alone.passages[:, 0]) & set(apart.passages[:, 0])


def test_both_tests_of_significance_are_those_of_the_books():
    rng = np.random.default_rng(0)
    base = rng.random(300) < 0.6
    better = base | (rng.random(300) < 0.15)
    found = compare_with_base(better, base, comparisons=13)
    t = stats.ttest_ind(better.astype(float), base.astype(float)).pvalue
    assert found.t_test == pytest.approx(min(1, 13 * t))
    alone = int((better & ~base).sum())
    assert found.mcnemar == pytest.approx(13 * 0.5 ** (alone - 1))
    assert found.mcnemar < found.t_test
    same = compare_with_base(base, base)
    assert (same.t_test, same.mcnemar) == (1.0, 1.0)
