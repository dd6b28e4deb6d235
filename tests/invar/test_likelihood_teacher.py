"""The likelihood of answers as a teacher's score, against single prompts."""

import numpy as np
import pytest

pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

import tiny_language_models
from tilefold.data.training_set import TrainingSet
from tilefold.invar import likelihood_teacher
from tilefold.models import CausalLM
from tilefold.ragged_lists import Lists

TEMPLATE = "{passages} the {question}"
DOCUMENTS = ["red hen runs", "blue fox sleeps", "a barn", "fox under the barn"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> CausalLM:
    folder = tmp_path_factory.mktemp("llama")
    tiny_language_models.save("LlamaForCausalLM", folder, max_position_embeddings=64)
    tiny_language_models.save_words("LlamaForCausalLM", folder, length=64)
    return CausalLM.from_pretrained(folder)


def data(answers) -> TrainingSet:
    lists = Lists.pack([[0, 2], [1]]), Lists.pack([[3], [0, 2, 3]])
    return TrainingSet(["q", "r"], ["hen", "fox"], list("abcd"), DOCUMENTS, *lists, answers)


def test_scores_are_the_mean_log_likelihood_of_the_first_answer(model):
    whole = data([("red hen", "blue"), ("fox",)])
    found = likelihood_teacher(model, whole, template=TEMPLATE, batch_size=2)
    for lists, scores in (
        (found.positives, found.positive_scores),
        (found.negatives, found.negative_scores),
    ):
        for place, (query, row) in enumerate(zip(lists.owners(), lists.indices, strict=True)):
            prompt = f"{DOCUMENTS[row]} the {whole.queries[query]}"
            alone = model.log_likelihood([prompt], [f" {whole.answers[query][0]}"])
            np.testing.assert_allclose(scores[place], alone.mean[0], rtol=1e-5)
    assert found.queries == whole.queries


def test_a_query_without_an_answer_is_refused(model):
    with pytest.raises(ValueError, match="expected an answer of every query, got none of 1"):
        likelihood_teacher(model, data([("red",), ()]), template=TEMPLATE)
