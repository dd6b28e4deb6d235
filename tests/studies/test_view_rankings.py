"""Rankings of test questions under wordings and windows, and how much they differ."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tilefold.data.training_set import TrainingSet
from tilefold.files.steps import Steps
from tilefold.losses import invariance_loss
from tilefold.ragged_lists import Lists
from tilefold.studies.invar.invar_result import BOTH, ORIGINAL, REWRITES, WINDOWS
from tilefold.studies.invar.view_rankings import (
    QuestionViews,
    ViewRankings,
    measure_rankings,
    measure_robustness,
    rank_by_words,
    rank_views,
)
from tilefold.studies.study import NoStepStore

RNG = np.random.default_rng(5)
WORDS = ["hen", "fox", "barn", "red", "who", "where", "sleeps", "runs"]
N, M = 7, 40
DOCUMENTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 9))) for _ in range(M)]
DATA = TrainingSet(
    [f"q{row}" for row in range(N)],
    [f"who {' '.join(RNG.choice(WORDS, 3))} {row}" for row in range(N)],
    [f"d{row}" for row in range(M)],
    DOCUMENTS,
    Lists.pack([sorted(RNG.choice(M, 3, replace=False)) for _ in range(N)]),
    Lists.pack([[]] * N),
    [()] * N,
    titles=["a title" if row % 3 else "" for row in range(M)],
    prompts=["find:" if row % 2 else "" for row in range(N)],
)
UNSEEN = [[f"{text} please", f"say {text}"] for text in DATA.queries]
TEMPERATURE = 0.6


class DrawsEmbeddings:
    """A retriever with a random embedding of each text; notes what it encodes."""

    title_format = "{title} {text}"

    def __init__(self) -> None:
        self.query_encoder = SimpleNamespace(fingerprint=lambda: "weights")
        self.document_encoder = self.query_encoder
        self.encoded: list[str] = []

    def embedding(self, text: str) -> np.ndarray:
        return np.random.default_rng(list(text.encode())).normal(size=6).astype(np.float32)

    def _encode(self, texts, firsts, options) -> np.ndarray:
        assert options == {"batch_size": 3, "progress": False}
        joined = [f"{first} {text}".strip() for first, text in zip(firsts, texts, strict=True)]
        self.encoded += joined
        return np.stack([self.embedding(text) for text in joined])

    def encode_queries(self, texts, prompts=None, **options):
        """Embeddings of prompts and queries."""
        return self._encode(texts, prompts, options)

    def encode_documents(self, texts, titles=None, **options):
        """Embeddings of titles and documents."""
        return self._encode(texts, titles, options)


def ranked(views: QuestionViews, steps=None, temperature: float = TEMPERATURE):
    model = DrawsEmbeddings()
    store = NoStepStore() if steps is None else steps
    found = rank_views(model, views, temperature, steps=store, batch_size=3, progress=False)
    return found, model


def naive_scores(unseen, windows) -> np.ndarray:
    """Scores of all documents, ``[S, W, n, m]``, by loops."""
    model = DrawsEmbeddings()
    wordings = [DATA.queries, *(list(own) for own in zip(*unseen, strict=True))]
    table = np.zeros((len(wordings), 1 + len(windows), N, M))
    sizes = [None, *windows]
    places = itertools.product(range(len(wordings)), range(len(sizes)), range(N), range(M))
    for s, w, q, d in places:
        query = model.embedding(f"{DATA.prompts[q]} {wordings[s][q]}".strip())
        words, size = DOCUMENTS[d].split(), sizes[w] or 100
        pieces = [" ".join(words[at : at + size]) for at in range(0, len(words), size)]
        texts = [f"{DATA.titles[d]} {piece}".strip() for piece in pieces]
        table[s, w, q, d] = max(
            float(np.float32(query.astype(float) @ model.embedding(text).astype(float)))
            for text in texts
        )
    return table


def naive_measures(ids: list[list[list[int]]], cutoff: int) -> dict[str, list[float]]:
    """Measures of views ``[S][n][depth]``, from their definitions."""
    relevant = [set(DATA.positives.of(row).tolist()) for row in range(N)]
    found: dict[str, list[float]] = {}
    for row in range(N):
        views = [view[row] for view in ids]
        hits = [[d in relevant[row] for d in view] for view in views]
        ranks = [1 / (own[:10].index(True) + 1) if any(own[:10]) else 0.0 for own in hits]
        pairs = list(itertools.combinations(range(len(views)), 2))
        tops = [set(view[:cutoff]) for view in views]
        values = {
            "deviation of RR@10": float(np.std(ranks)),
            "lowest RR@10": min(ranks),
            f"Jaccard@{cutoff}": np.mean(
                [len(tops[a] & tops[b]) / len(tops[a] | tops[b]) for a, b in pairs]
            ),
            f"RBO@{cutoff}": np.mean([overlap(views[a], views[b], cutoff) for a, b in pairs]),
            "flips of Success@1": np.mean([hits[a][0] != hits[b][0] for a, b in pairs]),
        }
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return found


def overlap(first: list[int], second: list[int], depth: int, p: float = 0.9) -> float:
    """Extrapolated rank-biased overlap of two rankings of equal length (Webber et al., eq. 32)."""
    common = [len(set(first[:d]) & set(second[:d])) for d in range(1, depth + 1)]
    terms = sum(own / d * p**d for d, own in enumerate(common, 1))
    return (1 - p) / p * terms + common[-1] / depth * p**depth


def naive_variance(scores: np.ndarray) -> np.ndarray:
    """Variance over views ``[S, n, m]`` of softmax probabilities, summed over documents."""
    exponentials = np.exp(scores / TEMPERATURE)
    return (exponentials / exponentials.sum(2, keepdims=True)).var(0).sum(1)


def test_each_condition_has_the_measures_of_its_views_alone():
    views = QuestionViews(DATA, UNSEEN, (2, 3))
    found, _ = ranked(views)
    scores = naive_scores(UNSEEN, (2, 3))
    order = np.argsort(-scores, axis=3, kind="stable")
    assert found.ids.tolist() == order.tolist()  # fewer than 100 documents
    assert found.wordings.tolist() == order[:, 0].tolist()
    measured = measure_robustness(found, views, 5)
    sides = {
        REWRITES: (order[:, 0], scores[:, 0]),
        WINDOWS: (order[0], scores[0]),
        BOTH: (order.reshape(9, N, M), scores.reshape(9, N, M)),
    }
    assert list(dict.fromkeys(condition for condition, _ in measured)) == list(sides)
    for condition, (ids, own) in sides.items():
        expected = naive_measures(ids.tolist(), 5)
        names = {name for condition_of, name in measured if condition_of == condition}
        assert names == {*expected, "variance of probabilities"}
        for name, values in expected.items():
            np.testing.assert_allclose(measured[condition, name], values, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(
            measured[condition, "variance of probabilities"], naive_variance(own), rtol=1e-5
        )


def test_the_variance_over_wordings_is_that_of_the_invariance_loss():
    found, model = ranked(QuestionViews(DATA, UNSEEN, (2,)))
    wordings = [DATA.queries, *map(list, zip(*UNSEEN, strict=True))]
    queries = [
        [
            model.embedding(f"{prompt} {text}".strip())
            for prompt, text in zip(DATA.prompts, own, strict=True)
        ]
        for own in wordings
    ]
    documents = [
        model.embedding(f"{title} {text}".strip())
        for title, text in zip(DATA.titles, DOCUMENTS, strict=True)
    ]
    loss = invariance_loss(
        torch.from_numpy(np.array(queries)),
        torch.from_numpy(np.array(documents)),
        temperature=TEMPERATURE,
    )
    np.testing.assert_allclose(found.variances[REWRITES], loss.variance.numpy(), rtol=1e-5)


def test_each_wording_and_each_window_is_encoded_once():
    _, model = ranked(QuestionViews(DATA, UNSEEN, (2, 3)))
    chunks = [sum(-(-len(text.split()) // size) for text in DOCUMENTS) for size in (2, 3)]
    assert len(model.encoded) == 3 * N + M + sum(chunks)


@pytest.mark.parametrize(
    ("unseen", "windows", "conditions"),
    [
        (UNSEEN, (), [REWRITES]),
        ([[]] * N, (3,), [WINDOWS]),
        ([[]] * N, (), []),
        (UNSEEN, (3,), [REWRITES, WINDOWS, BOTH]),
    ],
    ids=["rewrites", "windows", "neither", "both"],
)
def test_the_product_is_a_condition_where_both_are_there(unseen, windows, conditions):
    views = QuestionViews(DATA, unseen, windows)
    found, _ = ranked(views)
    assert list(found.variances) == conditions
    measured = measure_robustness(found, views, 10)
    assert list(dict.fromkeys(condition for condition, _ in measured)) == conditions
    rankings = dict.fromkeys(condition for condition, _ in measure_rankings(found, views))
    assert list(rankings) == [ORIGINAL, REWRITES][: 1 + (REWRITES in conditions)]


def test_wordings_that_rank_alike_in_each_window_differ_as_the_windows_do():
    """The product is no average: two windows that disagree are all pairs between them."""
    windows = np.array([[[0, 1]], [[2, 3]]])  # [W, n, depth], one question
    lists = Lists.pack([[0]]), Lists.pack([[]])
    data = TrainingSet(["q"], ["x"], list("abcd"), list("abcd"), *lists, [()])
    views = QuestionViews(data, [["y", "z"]], (1,))
    measured = measure_robustness(ViewRankings(np.stack([windows] * 3)), views, 2)
    assert measured[REWRITES, "Jaccard@2"] == [1.0]
    assert measured[WINDOWS, "Jaccard@2"] == [0.0]
    assert measured[BOTH, "Jaccard@2"] == pytest.approx([6 / 15])  # pairs within a window
    assert measured[BOTH, "flips of Success@1"] == pytest.approx([9 / 15])
    assert measured[BOTH, "deviation of RR@10"] == pytest.approx([0.5])
    assert measured[BOTH, "lowest RR@10"] == [0.0]


def test_rankings_are_kept_by_wordings_windows_and_temperature(tmp_path):
    steps = Steps(tmp_path)
    views = QuestionViews(DATA, UNSEEN, (2,))
    first, model = ranked(views, steps)
    assert model.encoded
    again, model = ranked(views, steps)
    assert not model.encoded
    assert again.ids.tolist() == first.ids.tolist()
    assert {name: own.tolist() for name, own in again.variances.items()} == {
        name: own.tolist() for name, own in first.variances.items()
    }
    others = QuestionViews(DATA, [own[:1] for own in UNSEEN], (2,)), QuestionViews(DATA, UNSEEN, ())
    for other in (*others, QuestionViews(DATA, UNSEEN, (3,))):
        assert ranked(other, steps)[1].encoded
    assert ranked(views, steps, temperature=0.5)[1].encoded


def test_rankings_of_a_version_without_the_product_are_not_read(tmp_path):
    """Their step had the same name and the same inputs, but other arrays."""
    steps = Steps(tmp_path)
    views = QuestionViews(DATA, UNSEEN, (2,))
    depends = ["weights", "weights", DrawsEmbeddings.title_format, views.digest(), TEMPERATURE]
    steps.once("rankings of views", depends, lambda: {"wordings": np.zeros(1)})
    assert ranked(views, steps)[0].ids.shape == (3, 2, N, M)


def test_bm25_has_wordings_and_neither_windows_nor_probabilities():
    pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")
    views = QuestionViews(DATA, UNSEEN, (2,))
    found = rank_by_words(views, steps=NoStepStore())
    assert found.ids.shape == (3, 1, N, M)
    measured = measure_robustness(found, views, 10)
    assert {condition for condition, _ in measured} == {REWRITES}
    assert "variance of probabilities" not in {name for _, name in measured}
