"""Likelihoods of answers are kept under everything that they depend on."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

import tiny_language_models
from tilefold.data.training_set import TrainingSet
from tilefold.files.steps import Steps
from tilefold.invar import likelihood_teacher
from tilefold.models import CausalLM
from tilefold.ragged_lists import Lists
from tilefold.studies.invar.answer_likelihoods import AnswerLikelihoods
from tilefold.studies.invar.invar_subject import InvarSubject

DATA = TrainingSet(
    ["q0", "q1"],
    ["the fox", "the hen"],
    ["d0", "d1", "d2"],
    ["the fox sleeps", "a hen", "over the barn"],
    Lists.pack([[0], [1]]),
    Lists.pack([[1, 2], [2]]),
    [("fox",), ("hen", "barn")],
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    tiny_language_models.save("LlamaForCausalLM", folder, max_position_embeddings=256)
    tiny_language_models.save_words("LlamaForCausalLM", folder, length=256)
    return str(folder)


@pytest.fixture
def loaded(monkeypatch):
    """Names of the models that were loaded."""
    found = []
    load = CausalLM.from_pretrained.__func__

    def remembered(cls, name, *args, **options):
        found.append(name)
        return load(cls, name, *args, **options)

    monkeypatch.setattr(CausalLM, "from_pretrained", classmethod(remembered))
    return found


def teacher(model, folder, *, template="popqa", digest="0"):
    subject = InvarSubject("t", model, None, DATA, [], DATA, [], template)
    return AnswerLikelihoods(subject, [digest], Steps(folder), torch.float32, batch_size=2)


def test_they_are_those_of_the_teacher_and_no_model_is_loaded_again(model, tmp_path, loaded):
    wanted = likelihood_teacher(CausalLM.from_pretrained(model), DATA, template="popqa")
    loaded.clear()
    first = teacher(model, tmp_path).scored(DATA)
    assert loaded == [model]
    second = teacher(model, tmp_path).scored(DATA)
    assert loaded == [model]
    for name in ("positive_scores", "negative_scores"):
        found = getattr(first, name)
        np.testing.assert_allclose(found, getattr(wanted, name), rtol=1e-5)
        np.testing.assert_array_equal(getattr(second, name), found)
        assert getattr(second, name).dtype == getattr(wanted, name).dtype


@pytest.mark.parametrize(
    "changed",
    [
        {"queries": ["the hen", "the hen"]},
        {"answers": [("barn",), ("hen", "barn")]},
        {"documents": ["the fox sleeps", "a barn", "over the barn"]},
        {"positives": Lists.pack([[0], [0]])},
        {"negatives": Lists.pack([[1], [2, 0]])},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_other_questions_answers_or_candidates_are_scored_again(model, tmp_path, loaded, changed):
    teacher(model, tmp_path).scored(DATA)
    teacher(model, tmp_path).scored(dataclasses.replace(DATA, **changed))
    assert loaded == [model] * 2


@pytest.mark.parametrize("changed", [{"template": "author"}, {"digest": "1"}])
def test_another_template_or_model_scores_again(model, tmp_path, loaded, changed):
    teacher(model, tmp_path).scored(DATA)
    teacher(model, tmp_path, **changed).scored(DATA)
    assert loaded == [model] * 2


def test_a_question_without_an_answer_is_an_error_and_nothing_is_kept(model, tmp_path):
    data = dataclasses.replace(DATA, answers=[("fox",), ()])
    with pytest.raises(ValueError, match="expected an answer of every query, got none of 1"):
        teacher(model, tmp_path).scored(data)
    assert not list(tmp_path.iterdir())
