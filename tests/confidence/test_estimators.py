"""Estimators against loops, and on a task in which half of the queries are noise."""

import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, NoisyTask

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from tilefold.confidence import (
    ConfidenceEstimator,
    EncodedCorpus,
    EnsembleConfidence,
    GaussianConfidence,
    LabelledEstimator,
    Margin,
    ProbeConfidence,
    RewriteConfidence,
    TopProbability,
    first_is_relevant,
)
from tilefold.confidence.gaussian_head import (
    GaussianHead,
    HeadTraining,
    ListwiseBatch,
    negative_log_likelihood,
)
from tilefold.ragged_lists import Lists

pytestmark = pytest.mark.usefixtures("one_thread")
TRAINED, TESTED = (0, 160), (160, 240)


@pytest.fixture(scope="module")
def task() -> NoisyTask:
    return NoisyTask()


def ensemble(task: NoisyTask) -> EnsembleConfidence:
    """The retriever of a task, and two for which noise queries are other noise."""
    models = [task.model]
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
        vectors = dict(task.model.vectors)
        for query in np.array(task.queries)[task.is_noise].tolist():
            row = rng.normal(size=16)
            vectors[query] = 0.7 * row / np.linalg.norm(row)
        models.append(KnownEmbeddings({text: row @ rotation for text, row in vectors.items()}))
    return EnsembleConfidence(models)


def wordings(queries):
    return [[f"{query} a", f"{query} b"] for query in queries]


ESTIMATORS = {
    "top": lambda _: TopProbability(),
    "margin": lambda _: Margin(),
    "ensemble": ensemble,
    "rewrite": lambda _: RewriteConfidence(wordings, None),
    "gaussian": lambda _: GaussianConfidence(),
    "probe": lambda _: ProbeConfidence(),
    "probe with scores": lambda _: ProbeConfidence(top_scores=3),
}
each_estimator = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)


@each_estimator
def test_noise_queries_have_a_lower_confidence(make, task):
    corpus, estimator = task.corpus(), make(task)
    if isinstance(estimator, RewriteConfidence):
        # Where noise leads to nearly uniform distributions, these hardly vary.
        estimator = RewriteConfidence(wordings, 0.1)
    if isinstance(estimator, LabelledEstimator):
        assert estimator.fit(corpus, *task.part(*TRAINED)) is estimator
    queries, relevant = task.part(*TESTED)
    found = estimator.scores(corpus, queries)
    assert found.dtype == np.float64
    assert found.shape == (80,)
    assert roc_auc_score(~task.is_noise[slice(*TESTED)], found) > 0.9
    assert roc_auc_score(first_is_relevant(corpus, queries, relevant), found) > 0.85


@each_estimator
def test_estimators_have_one_interface_and_take_any_number_of_queries(make, task):
    corpus, estimator = task.corpus(), make(task)
    assert isinstance(estimator, ConfidenceEstimator)
    assert isinstance(estimator, LabelledEstimator) == (not isinstance(estimator, Margin))
    if isinstance(estimator, LabelledEstimator):
        with pytest.raises(NotFittedError, match=type(estimator).__name__):
            estimator.scores(corpus, task.queries[:2])
        estimator.fit(corpus, *task.part(0, 60))
    both = estimator.scores(corpus, task.queries[60:64])
    alone = [estimator.scores(corpus, [query])[0] for query in task.queries[60:64]]
    np.testing.assert_allclose(alone, both, rtol=1e-4, atol=1e-9)
    assert np.array_equal(estimator.scores(corpus, task.queries[60:64]), both)


def test_the_top_probability_and_the_margin_are_those_of_the_whole_table(task):
    corpus, queries = task.corpus(), task.queries[:9]
    scores = corpus.encode_queries(queries).astype(np.float64) @ corpus.vectors.T
    found = TopProbability(0.3).scores(corpus, queries)
    np.testing.assert_allclose(found, softmax(scores / 0.3, axis=1).max(1), rtol=1e-5)
    ordered = np.sort(scores, axis=1)
    margins = Margin().scores(corpus, queries)
    np.testing.assert_allclose(margins, ordered[:, -1] - ordered[:, -2], atol=1e-6)
    alone = EncodedCorpus(task.model, task.documents[:1])
    with pytest.raises(ValueError, match=r"Margin\.scores: expected 2 documents or more, got 1"):
        Margin().scores(alone, queries)


def test_the_ensemble_is_the_mean_of_its_members_each_with_its_documents(task):
    estimator, corpus = ensemble(task), task.corpus()
    estimator.fit(corpus, *task.part(0, 60))
    assert len(set(estimator.temperatures_)) == 3
    tables = []
    for model, temperature in zip(estimator.models, estimator.temperatures_, strict=True):
        scores = model.encode_queries(task.queries[:9]) @ model.encode_documents(task.documents).T
        tables.append(softmax(scores.astype(np.float64) / temperature, axis=1))
    found = estimator.distribution(corpus, task.queries[:9])
    np.testing.assert_allclose(found.top_probability, np.mean(tables, 0).max(1), rtol=1e-4)
    assert (found.mutual_information[task.is_noise[:9]] > 0.01).all()


def test_members_encode_the_documents_of_a_corpus_once(task):
    estimator, corpus = ensemble(task), task.corpus()
    for model in estimator.models:
        model.encoded.clear()
    estimator.fit(corpus, *task.part(0, 60))
    estimator.scores(corpus, task.queries[60:62])
    assert [model.encoded.count("d0") for model in estimator.models] == [0, 1, 1]
    estimator.scores(task.corpus(), task.queries[60:62])
    assert [model.encoded.count("d0") for model in estimator.models] == [1, 2, 2]


def test_variances_are_over_the_query_and_any_number_of_rewrites(task):
    corpus = task.corpus()
    rewrites = {"q0": ["q1"], "q1": ["q2", "q3", "q4"], "q2": ["q2"], "q3": ["q5"]}
    found = RewriteConfidence(rewrites, 0.2).scores(corpus, list(rewrites))
    for value, (query, own) in zip(found, rewrites.items(), strict=True):
        rows = corpus.encode_queries([query, *own]).astype(np.float64)
        expected = -softmax(rows @ corpus.vectors.T / 0.2, axis=1).var(0).sum()
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-12)
    mean = RewriteConfidence(rewrites, 0.2).distribution(corpus, list(rewrites))
    for row, (query, own) in enumerate(rewrites.items()):
        rows = corpus.encode_queries([query, *own]).astype(np.float64)
        expected = softmax(rows @ corpus.vectors.T / 0.2, axis=1).mean(0)
        assert mean.top_probability[row] == pytest.approx(expected.max(), rel=1e-4)
        assert mean.top_document[row] == expected.argmax()
    assert mean.mutual_information[2] == pytest.approx(0, abs=1e-9)  # rewritten as it is
    as_function = RewriteConfidence(lambda queries: [rewrites[query] for query in queries], 0.2)
    np.testing.assert_array_equal(as_function.scores(corpus, list(rewrites)), found)


def test_rewrites_that_do_not_fit_are_errors(task):
    corpus = task.corpus()
    with pytest.raises(TypeError, match="rewriters must be a function or a mapping, got list"):
        RewriteConfidence([["a"]])
    with pytest.raises(ValueError, match="'q1' has no rewrite"):
        RewriteConfidence({"q0": ["q1"]}, 1.0).scores(corpus, ["q0", "q1"])
    with pytest.raises(ValueError, match="expected rewrites of 2 queries, got 1"):
        RewriteConfidence(lambda _: [["q1"]], 1.0).scores(corpus, ["q0", "q1"])
    with pytest.raises(TypeError, match="rewrites is one string"):
        RewriteConfidence({"q0": "q1"}, 1.0).scores(corpus, ["q0"])


# ---- gaussian ------------------------------------------------------------------------------------


def test_the_loss_is_minus_the_log_of_the_mean_likelihood_over_draws():
    rng = torch.Generator().manual_seed(0)
    queries, documents, noise = (torch.randn(n, 4, generator=rng) for n in (3, 6, 5))
    head = GaussianHead(torch.randn(4, 4, generator=rng), torch.randn(4, generator=rng), scale=1.7)
    is_relevant = torch.zeros(3, 6, dtype=torch.bool)
    is_relevant[[0, 1, 1, 2], [3, 0, 5, 2]] = True
    expected = []
    for query, own in zip(queries, is_relevant, strict=True):
        deviation = torch.exp((head.weight @ (query / 1.7) + head.bias) / 2)
        likelihoods = [
            torch.softmax((query + deviation * draw) @ documents.T / 0.5, 0)[own].sum()
            for draw in noise
        ]
        expected.append(-torch.log(torch.stack(likelihoods).mean()))
    batch = ListwiseBatch(queries, documents, is_relevant)
    found = negative_log_likelihood(head, batch, noise, 0.5)
    assert found.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_the_head_with_the_lowest_held_out_loss_is_kept():
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 4, generator=rng)
    batch = ListwiseBatch(rows[:20], rows[20:], torch.eye(20, dtype=torch.bool))
    held = ListwiseBatch(rows[20:], rows[20:], torch.eye(20, dtype=torch.bool))
    noise = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    losses = []
    for epochs in (1, 2, 5, 20):
        head = HeadTraining(1.0, 4, epochs, 0.5, 0.0, seed=0).train([batch], held)
        losses.append(negative_log_likelihood(head, held, noise, 1.0).item())
    assert losses == sorted(losses, reverse=True)


def test_queries_that_are_often_wrong_get_a_larger_variance(task):
    corpus = task.corpus()
    estimator = GaussianConfidence().fit(corpus, *task.part(*TRAINED))
    variances = np.exp(estimator.log_variances(corpus, task.queries[160:])).mean(1)
    # Noise is shorter, yet its variance is larger.
    assert variances[task.is_noise[160:]].mean() > variances[~task.is_noise[160:]].mean()


def test_confidence_is_the_mean_over_draws_and_leaves_torchs_generator(task):
    corpus, state = task.corpus(), torch.get_rng_state()
    estimator = GaussianConfidence(samples=4, epochs=2, seed=3)
    found = estimator.fit(corpus, *task.part(*TRAINED)).scores(corpus, task.queries[160:164])
    assert torch.equal(torch.get_rng_state(), state)
    noise = np.random.default_rng(3).standard_normal((4, 16), np.float32)
    deviations = np.exp(estimator.log_variances(corpus, task.queries[160:164]) / 2)
    rows = corpus.encode_queries(task.queries[160:164])
    table = [
        softmax(((rows + deviations * own) @ corpus.vectors.T) / estimator.temperature_, axis=1)
        for own in noise
    ]
    np.testing.assert_allclose(found, np.mean(table, 0).max(1), rtol=1e-4)
    again = GaussianConfidence(samples=4, epochs=2, seed=3).fit(corpus, *task.part(*TRAINED))
    np.testing.assert_array_equal(again.scores(corpus, task.queries[160:164]), found)


def test_candidates_of_a_batch_are_the_first_ones_of_its_queries_and_all_relevant_ones(task):
    corpus, (queries, relevant) = task.corpus(), task.part(0, 6)
    batch = GaussianConfidence(candidates=2)._batch(corpus, queries, relevant, np.arange(6))
    listed = set(corpus.search(queries, 2).ids.ravel().tolist()) | set(relevant.indices.tolist())
    np.testing.assert_array_equal(batch.candidates.numpy(), corpus.vectors[sorted(listed)])
    for row, own in enumerate(batch.is_relevant):
        assert np.array(sorted(listed))[own.numpy()].tolist() == relevant.of(row).tolist()
    whole = GaussianConfidence(candidates=40)._batch(corpus, queries, relevant, np.arange(6))
    assert len(whole.candidates) == 40


# ---- probe ---------------------------------------------------------------------------------------


def test_features_are_the_embedding_the_first_score_and_its_leads(task):
    corpus, queries = task.corpus(), task.queries[:4]
    rows = corpus.encode_queries(queries).astype(np.float64)
    found = ProbeConfidence(top_scores=3).features(corpus, queries)
    top = -np.sort(-(rows @ corpus.vectors.T), axis=1)[:, :3]
    expected = np.column_stack([rows, top[:, 0], top[:, 0] - top[:, 1], top[:, 0] - top[:, 2]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(ProbeConfidence().features(corpus, queries), rows)
    with pytest.raises(ValueError, match="top_scores must be at most the number of documents, 40"):
        ProbeConfidence(top_scores=41).features(corpus, queries)


def test_the_strength_is_chosen_by_cross_validation(task):
    corpus = task.corpus()
    probe = ProbeConfidence(strengths=[1.0, 1e-6, 100.0]).fit(corpus, *task.part(*TRAINED))
    table = probe.search_.cv_results_
    assert list(table["param_logisticregression__C"]) == [1e-6, 1.0, 100.0]
    best = table["param_logisticregression__C"][np.argmax(table["mean_test_score"])]
    assert probe.search_.best_params_ == {"logisticregression__C": best}
    assert best != 1e-6


def test_probes_need_queries_of_both_kinds(task):
    corpus, queries = task.corpus(), task.queries[:20]
    firsts = corpus.search(queries, 1).ids.tolist()
    with pytest.raises(ValueError, match="2 whose is not, got 20 and 0"):
        ProbeConfidence().fit(corpus, queries, Lists.pack(firsts))
    with pytest.raises(ValueError, match="got 0 and 20"):
        ProbeConfidence().fit(corpus, queries, Lists.pack([[]] * 20))
    few = ProbeConfidence(folds=5).fit(corpus, queries, Lists.pack([*firsts[:18], [], []]))
    assert few.search_.cv.get_n_splits() == 2


def test_bad_arguments_are_errors():
    for make, message in [
        (lambda: EnsembleConfidence([None]), "expected 2 models or more, got 1"),
        (lambda: EnsembleConfidence([None, None], temperature=0), "temperature must be above 0"),
        (lambda: GaussianConfidence(samples=0), "samples must be at least 1, got 0"),
        (lambda: GaussianConfidence(learning_rate=0), "learning_rate must be above 0"),
        (lambda: ProbeConfidence(folds=1), "folds must be at least 2, got 1"),
        (lambda: ProbeConfidence(strengths=[]), "strengths must be one or more above 0"),
        (lambda: ProbeConfidence(rows="cls"), "rows='cls' needs a site"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


# ---- corpus --------------------------------------------------------------------------------------


def test_the_last_queries_are_encoded_once(task):
    corpus = task.corpus()
    task.model.encoded.clear()
    for _ in range(2):
        corpus.encode_queries(["q0", "q1"])
        corpus.search(["q0", "q1"], 3)
    assert task.model.encoded == ["q0", "q1"]
    corpus.encode_queries(["q1", "q0"])
    np.testing.assert_array_equal(corpus.encode_queries(["q0"])[0], task.model.vectors["q0"])


def test_a_corpus_takes_vectors_and_refuses_those_that_do_not_fit(task):
    vectors = np.stack([task.model.vectors[text] for text in task.documents[:3]])
    task.model.encoded.clear()
    corpus = EncodedCorpus(task.model, task.documents[:3], vectors=vectors)
    assert task.model.encoded == []
    np.testing.assert_array_equal(corpus.vectors, vectors)
    with pytest.raises(ValueError, match="EncodedCorpus: expected 2 vectors, got 3"):
        EncodedCorpus(task.model, task.documents[:2], vectors=vectors)
    with pytest.raises(ValueError, match="EncodedCorpus: expected 3 titles, got 1"):
        EncodedCorpus(task.model, task.documents[:3], ["a title"])
    with pytest.raises(ValueError, match="EncodedCorpus: expected 1 document or more, got 0"):
        EncodedCorpus(task.model, [])
    with pytest.raises(ValueError, match="queries have dim 16 but documents have dim 3"):
        EncodedCorpus(task.model, task.documents[:3], vectors=vectors[:, :3]).search(["q0"], 1)
    with pytest.raises(TypeError, match="queries is one string"):
        corpus.encode_queries("q0")


def test_a_first_document_is_relevant_where_the_list_has_it(task):
    corpus, queries = task.corpus(), task.queries[:4]
    first = corpus.search(queries, 1).ids[:, 0].tolist()
    other = (first[1] + 1) % 40
    lists = Lists.pack([[first[0]], [other], [], sorted({first[3], other})])
    assert first_is_relevant(corpus, queries, lists).tolist() == [True, False, False, True]
