"""The study of the knowledge bound: its measures, controls and differences, by hand."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from small_bases import use_small_bases

from tilefold.cli.main import main
from tilefold.files.steps import Steps
from tilefold.mechanisms import WeightDelta, edit, feed_forwards
from tilefold.mechanisms.editing.weight_delta import Factors, NewNeurons
from tilefold.models import BiEncoder, MaskedLM
from tilefold.studies.bound import BOUND, BoundSettings
from tilefold.studies.bound.bound_result import (
    ADDED,
    AFTER_ADDED,
    EDITED_AFTER,
    FROM_ADDED,
    FROM_BASE,
    GROUPS,
    OTHER_UNKNOWN,
    REMOVED,
    SPECIFIC,
    TRAINED,
)
from tilefold.studies.bound.bound_study import mean_difference, permutation_p
from tilefold.studies.bound.bound_subject import bound_subject, cloze_ranks
from tilefold.studies.bound.edited_bases import knowledge_deltas, random_delta, saved_base
from tilefold.studies.study_file import read_result
from tilefold.world.world_retrievers import fine_tuned

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = [
    "mechanisms",
    "bound",
    "--world",
    "tiny",
    "--seeds",
    "0",
    "--n-facts",
    "6",
    "--retriever-epochs",
    "1",
]


@pytest.fixture(scope="module")
def studied(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("bound") / "out"
    with pytest.MonkeyPatch.context() as patch:
        use_small_bases(patch, cache)
        assert main([*WORDS, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def result(studied):
    return read_result(studied / "bound.json", BOUND)


def settings(**changed) -> BoundSettings:
    options = {"world": "tiny", "seeds": (0,), "n_facts": 6, "retriever_epochs": 1}
    return BoundSettings(**{**options, **changed})


def reciprocal_ranks(model: BiEncoder, world, fact: int) -> float:
    """The mean over the wordings of the question, by scores of all passages."""
    passages = model.encode_documents(
        [p.text for p in world.passages], [p.title for p in world.passages], progress=False
    )
    relevant = world.stating(fact)
    found = []
    for question in world.questions(fact):
        scores = passages @ model.encode_queries([question], progress=False)[0]
        ranks = [1 + int((scores > scores[place]).sum()) for place in relevant]
        found.append(1 / min(ranks) if min(ranks) <= 10 else 0.0)
    return float(np.mean(found))


def test_measures_are_those_of_rankings_by_hand(small, studied, result):
    subject = bound_subject(settings(), 0)
    steps = Steps(studied / "steps")
    folder = fine_tuned(subject.world, subject.base, subject.train, epochs=1)
    model = BiEncoder.from_pretrained(folder)
    measures = {(row.retriever, row.facts): row for row in result.measures}
    assert set(measures) == {
        (name, group) for name in (*TRAINED, *EDITED_AFTER) for group in GROUPS
    }
    expected = [reciprocal_ranks(model, subject.world, n) for n in subject.groups[ADDED]]
    assert measures[FROM_BASE, ADDED].value.mean == pytest.approx(np.mean(expected), abs=0.02)
    delta = knowledge_deltas(settings(), subject, 0, steps)[ADDED]
    with edit(model.query_encoder, delta, strict=False):
        assert model.document_encoder.model is model.query_encoder.model
        expected = [reciprocal_ranks(model, subject.world, n) for n in subject.groups[ADDED]]
    assert measures[AFTER_ADDED, ADDED].value.mean == pytest.approx(np.mean(expected), abs=0.02)


def test_differences_are_those_of_the_measures(result):
    means = {(row.retriever, row.facts): row.value.mean for row in result.measures}
    assert len(result.comparisons) == 6 * 4
    for row in result.comparisons:
        expected = means[row.retriever, row.facts] - means[FROM_BASE, row.facts]
        assert row.comparison.difference.mean == pytest.approx(expected, abs=1e-9)
        assert row.seeds == pytest.approx([expected])
    changes = {(row.retriever, row.facts): row.seeds[0] for row in result.comparisons}
    assert [(row.retriever, row.facts, row.others) for row in result.specific] == [
        (name, *groups) for name, groups in SPECIFIC.items()
    ]
    for row in result.specific:
        expected = changes[row.retriever, row.facts] - changes[row.retriever, row.others]
        assert row.difference.mean == pytest.approx(expected, abs=1e-9)
        assert 0 < row.p <= 1


def test_facts_of_the_test_are_not_in_the_training(small):
    subject = bound_subject(settings(), 0)
    test = [n for group in GROUPS for n in subject.groups[group]]
    assert len(test) == len(set(test))
    assert not set(test) & set(subject.train)
    facts = subject.world.facts
    assert all(facts[n].exposed and subject.ranks[n] == 1 for n in subject.groups[REMOVED])
    assert all(not facts[n].exposed and subject.ranks[n] > 1 for n in subject.groups[ADDED])
    inside = bound_subject(settings(train_edited=True), 0)
    assert set(inside.train) - set(subject.train) == {
        *inside.groups[ADDED],
        *inside.groups[REMOVED],
    }
    assert not set(inside.train) & set(inside.groups[OTHER_UNKNOWN])


def test_ranks_are_among_the_values_of_the_relation(small):
    subject = bound_subject(settings(), 0)
    world, model = subject.world, subject.model
    assert (cloze_ranks(world, model) == subject.ranks).all()
    for n in (0, 50, 150):
        fact = world.facts[n]
        values = world.objects[fact.relation]
        scores = np.zeros(len(values))
        for prompt in world.clozes(n):
            logits = torch.from_numpy(model.logits([prompt])[0]).log_softmax(0)
            scores += logits[model.word_ids([value.lower() for value in values]).tolist()].numpy()
        assert subject.ranks[n] == 1 + (scores > scores[values.index(fact.object)] + 1e-4).sum()


def test_edits_change_the_base_that_retrievers_start_from(small, studied, result):
    by_mode = {row.mode: row for row in result.edits}
    assert by_mode["add"].after.mean > by_mode["add"].before.mean
    assert by_mode["remove"].after.mean < by_mode["remove"].before.mean
    subject = bound_subject(settings(), 0)
    delta = knowledge_deltas(settings(), subject, 0, Steps(studied / "steps"))[ADDED]
    (folder,) = (studied / "steps").glob("base-with-added-facts-0-*")
    saved = MaskedLM.from_pretrained(folder / "model")
    plain = MaskedLM.from_pretrained(subject.base)
    prompts = [subject.world.clozes(n)[0] for n in subject.groups[ADDED]]
    assert np.abs(saved.logits(prompts) - plain.logits(prompts)).max() > 0.1
    with edit(plain, delta):
        np.testing.assert_allclose(saved.logits(prompts), plain.logits(prompts), atol=1e-4)


def test_new_neurons_are_in_the_saved_base(small, tmp_path):
    subject = bound_subject(settings(), 0)
    deltas = knowledge_deltas(settings(editor="patches"), subject, 0, Steps(tmp_path / "steps"))
    folder = saved_base(subject, deltas[ADDED], tmp_path / "base")
    assert feed_forwards(MaskedLM.from_pretrained(folder))[0].neurons == 512 + 6
    assert feed_forwards(subject.model)[0].neurons == 512


def test_random_changes_have_the_same_norms():
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    factors = {
        (1, "output"): Factors(drawn(8, 3), drawn(3, 5)),
        (2, "output"): Factors(drawn(8, 1), drawn(1, 5)),
    }
    neurons = {0: NewNeurons(drawn(2, 8), drawn(2), drawn(2, 8))}
    delta = WeightDelta("digest", factors, neurons)
    found = random_delta(delta, [7])
    assert found.model == delta.model
    assert found.norms() == pytest.approx(delta.norms(), rel=1e-4)
    assert found.factors[1, "output"].right.shape == (3, 5)
    torch.testing.assert_close(found.neurons[0].keys.norm(dim=1), delta.neurons[0].keys.norm(dim=1))
    torch.testing.assert_close(found.neurons[0].biases, delta.neurons[0].biases)
    change, other = (x.factors[1, "output"] for x in (delta, found))
    cosine = (change.left @ change.right).flatten() @ (other.left @ other.right).flatten()
    assert abs(float(cosine)) < 0.5 * delta.norms()[1, "output"] ** 2
    same = random_delta(delta, [7]).factors[1, "output"].left
    assert torch.equal(same, other.left)
    assert not torch.equal(random_delta(delta, [8]).factors[1, "output"].left, same)


def test_the_interval_of_a_difference_is_that_of_two_samples():
    rng = np.random.default_rng(1)
    one, other = rng.normal(1.0, 1, 400), rng.normal(0.2, 2, 900)
    found = mean_difference([one], [other])
    error = np.sqrt(one.var() / len(one) + other.var() / len(other))
    assert found.mean == pytest.approx(one.mean() - other.mean())
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.02)


def test_shifts_of_whole_seeds_are_no_effect():
    """Groups of other sizes in each seed: pooled over seeds, their means would differ."""
    rng = np.random.default_rng(2)
    shifts, sizes = (0.5, 0.0, -0.5), (20, 60, 100)
    one = [rng.normal(shift, 0.1, 60) for shift in shifts]
    other = [rng.normal(shift, 0.1, n) for shift, n in zip(shifts, sizes, strict=True)]
    assert abs(np.concatenate(one).mean() - np.concatenate(other).mean()) > 0.15
    found = mean_difference(one, other)
    assert found.low < 0 < found.high
    assert permutation_p(one, other) > 0.05
    assert permutation_p([own + 0.1 for own in one], other) < 0.001


def test_facts_by_rank_are_those_of_the_test(result):
    assert sum(row.n for row in result.bins) == 108
    assert [row.label for row in result.bins] == ["1", "2 to 3", "4 to 10", "11 or more"]


def test_a_run_goes_on_where_it_stopped(small, studied, result, capsys):
    kept = sorted((studied / "steps").glob("retrieval-*"))
    assert len(kept) == 7
    kept[2].unlink()
    assert main([*WORDS, "--out", str(studied)]) == 0
    assert "6 steps were kept from an earlier run" in capsys.readouterr().out
    again = read_result(studied / "bound.json", BOUND)
    assert again.measures == result.measures
    assert again.specific == result.specific


def test_the_report_names_the_controls(studied):
    html = (studied / "report.html").read_text()
    assert ">The knowledge bound</h2>" in html
    assert not re.search(r">[^<]*\b(nan|None)\b[^<]*<", html)
    for name in (FROM_ADDED, *EDITED_AFTER, "random change as large (added)"):
        assert name in html
    assert "No question about the edited facts is in the training." in html


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": (1, 1)}, "seeds: expected one or more different values, got (1, 1)"),
        ({"n_facts": 1}, "n_facts: expected 2 or more, got 1"),
        ({"editor": "rome", "memit_weight": 5.0}, "memit_weight: has no effect without memit"),
        ({"retriever_epochs": 0}, "retriever_epochs: expected 1 or more, got 0"),
    ],
)
def test_wrong_settings_are_errors(changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings(**changed)


def test_more_facts_than_the_base_knows_are_an_error(small):
    with pytest.raises(ValueError, match=r"n_facts: expected fewer than .* test are known, got 60"):
        bound_subject(settings(n_facts=60), 0)
