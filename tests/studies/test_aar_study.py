"""The study of AAR from a world to a result, with readers that are trained for a few steps."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

from small_readers import use_small_readers

from tilefold.files.steps import Steps
from tilefold.studies.aar import AARSettings, run_aar
from tilefold.studies.aar.aar_result import ADAPTIVE, CLOSED_BOOK, GENREAD, GOLD, UNADAPTED
from tilefold.world import reading_retriever

SETTINGS = AARSettings(
    world="tiny",
    modes=["human", "both"],
    seeds=[0, 1],
    n_retrieved=4,
    depth=20,
    n_negatives=6,
    group_negatives=2,
    dev_questions=8,
    max_questions=24,
    epochs=2,
    train_batch_size=8,
    learning_rate=1e-4,
    temperature=0.05,
    n_passages=2,
    sweep=[3, 1],
    examples=3,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of models whose readers have one layer and were trained for two steps."""
    with pytest.MonkeyPatch.context() as patch:
        use_small_readers(patch, tmp_path_factory.mktemp("cache"))
        shorter = partial(reading_retriever.judged_retriever, width=32, layers=1, epochs=1)
        patch.setattr(reading_retriever, "judged_retriever", shorter)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("aar")


@pytest.fixture(scope="module")
def result(cache, folder):
    return run_aar(SETTINGS, steps=Steps(folder))


def test_every_target_is_measured_with_every_retrieval(result):
    found = {(row.target, row.retrieval) for row in result.accuracies}
    retrievals = [CLOSED_BOOK, UNADAPTED, ADAPTIVE, "human", "both", GOLD]
    targets = ["smaller", "larger", "causal"]
    assert found == {(target, retrieval) for target in targets for retrieval in retrievals}
    for row in result.accuracies:
        assert len(row.by_seed) == (2 if row.retrieval in ("human", "both") else 1)
        assert row.accuracy.mean == pytest.approx(np.mean(row.by_seed))
        assert 0 <= row.accuracy.low <= row.accuracy.mean <= row.accuracy.high <= 1
    gains = {(row.target, row.retrieval) for row in result.gains}
    assert gains == {(target, mode) for target in targets for mode in ("human", "both")}


def test_overlaps_are_of_every_two_annotators(result):
    pairs = {frozenset((row.first, row.second)) for row in result.overlaps}
    names = ["human", "source LM", "smaller", "larger"]
    assert pairs == {frozenset((a, b)) for a in names for b in names if a != b}
    assert all(row.n == 24 for row in result.overlaps)


def test_training_is_followed_from_before_it_to_its_end(result):
    for mode in ("human", "both"):
        for seed in (0, 1):
            own = [p for p in result.curves if (p.retrieval, p.seed) == (mode, seed)]
            assert own[0].step == 0
            assert own[-1].step == max(p.step for p in own) > 0
            assert all(0 <= p.reciprocal_rank <= 1 and 0 <= p.accuracy <= 1 for p in own)
    before = {p.reciprocal_rank for p in result.curves if p.step == 0}
    assert len(before) == 1  # of the same retriever


def test_training_sets_are_counted(result):
    human, both = result.training
    assert (human.retrieval, human.positives, human.from_lm) == ("human", 1.0, 0.0)
    assert both.questions + both.dropped == human.questions + human.dropped == 24
    assert 1 < both.positives <= 3
    assert 0 < both.from_lm < 1


def test_analyses_are_of_every_target(result):
    targets = ["smaller", "larger", "causal"]
    found = {(row.target, row.source) for row in result.deletions}
    assert found == {(t, source) for t in targets for source in ("human judges", "source LM")}
    for row in result.deletions:
        assert 0 < row.with_answer <= 1
        assert row.loss.mean == pytest.approx(row.whole.mean - row.deleted.mean)
    swept = {(row.target, row.retrieval, row.n_passages) for row in result.sweep}
    assert swept == {(t, r, n) for t in targets for r in (UNADAPTED, "both") for n in (1, 3)}


def test_examples_have_passages_of_every_source(result):
    assert len(result.examples) == 3
    sources = ["human judges", "source LM", "retriever before", "retriever after (both)"]
    for one in result.examples:
        assert [each.source for each in one.lists] == sources
        assert all(each.passages for each in one.lists)


def test_a_second_run_computes_nothing_again(result, cache, folder, monkeypatch):
    import transformers

    def refuse(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(transformers.Trainer, "train", refuse)
    steps = Steps(folder)
    again = run_aar(SETTINGS, steps=steps)
    assert steps.resumed > 10
    assert again.accuracies == result.accuracies
    assert again.curves == result.curves
    assert again.overlaps == result.overlaps


def test_genread_is_a_row_of_its_own_and_no_adapted_retriever(result, cache, folder, monkeypatch):
    """Each reader writes once; the run before has the rest."""
    import dataclasses

    from tilefold.aar.baselines import genread

    settings = dataclasses.replace(SETTINGS, genread=True)
    steps = Steps(folder)
    found = run_aar(settings, steps=steps)
    targets = ["smaller", "larger", "causal"]
    rows = [row for row in found.accuracies if row.retrieval == GENREAD]
    assert [row.target for row in rows] == targets
    assert all(len(row.by_seed) == 1 and row.n == found.accuracies[0].n for row in rows)
    # Adaptive Retrieval depends on GenRead; all else is as before.
    changed = (GENREAD, ADAPTIVE)
    kept = [row for row in found.accuracies if row.retrieval not in changed]
    assert kept == [row for row in result.accuracies if row.retrieval not in changed]
    assert found.gains == result.gains
    costs = {name for name in found.flops if "document" in name}
    assert costs == {f"{name}, a document of 150 tokens" for name in targets}
    assert all(found.flops[name] > 0 for name in costs)

    monkeypatch.setattr(genread, "_written", lambda *args: pytest.fail("written again"))
    assert run_aar(settings, steps=Steps(folder)).accuracies == found.accuracies


@pytest.mark.parametrize("on", [False, True])
def test_adaptive_retrieval_knows_popular_facts_by_genread_if_it_is_on(on):
    from types import SimpleNamespace

    from tilefold.aar import PopqaTask
    from tilefold.data import Question
    from tilefold.studies.aar.aar_analyses import adaptive_values
    from tilefold.studies.aar.aar_subject import TargetCorpus

    def task(name: str) -> PopqaTask:
        facts = [(f"{name}{n}", {"prop": "P1", "s_pop": 10**n}) for n in range(4)]
        return PopqaTask(tuple(Question(key, "who?", ("she",), own) for key, own in facts))

    class Stages:
        settings = SimpleNamespace(genread=on)
        subject = SimpleNamespace(retriever=None)

        def retrieved(self, corpus, model):
            return [["found"]] * 4

        def documents(self, target, corpus):
            return [["written"]] * 4

        def answers(self, target, corpus, passages, n_passages=None):
            """Retrieval is right for the two unpopular subjects, a document for the two others."""
            if passages is None:
                return np.zeros(4)
            return np.array([1.0, 1, 0, 0] if passages[0] == ["found"] else [0.0, 0, 1, 1])

    test = {CLOSED_BOOK: [0, 0, 0, 0], UNADAPTED: [1, 1, 0, 0]}
    if on:
        test[GENREAD] = [0, 0, 1, 1]
    values = {name: np.array([own], np.float64) for name, own in test.items()}
    corpus = TargetCorpus(task("t"), [], [], development=task("d"))
    found = adaptive_values(Stages(), corpus, None, values)
    assert found.tolist() == ([1, 1, 1, 1] if on else [1, 1, 0, 0])


def test_a_likelihood_is_a_signal_of_readers_of_both_families(cache):
    import dataclasses

    changes = {"modes": ["lm"], "seeds": [0], "epochs": 1, "sweep": [], "examples": 0}
    found = run_aar(dataclasses.replace(SETTINGS, signal="graded perplexity reduction", **changes))
    names = {name for row in found.overlaps for name in (row.first, row.second)}
    assert names == {"human", "source LM", "smaller", "larger", "causal"}
    assert {row.retrieval for row in found.gains} == {"lm"}


def test_too_many_dev_questions_are_refused(cache):
    import dataclasses

    with pytest.raises(ValueError, match="dev_questions: expected fewer than the"):
        run_aar(dataclasses.replace(SETTINGS, dev_questions=100_000))
