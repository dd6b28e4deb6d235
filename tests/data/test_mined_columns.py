"""Negatives that sentence-transformers' own miner finds keep their roles, in all of its formats."""

from typing import Any

import numpy as np
import pytest

from tilefold.data import read_training

pytestmark = pytest.mark.slow  # importing datasets and sentence-transformers takes seconds

ANSWERS = {f"question {n}": f"answer {n}" for n in range(6)}


class Model:
    """Embeds texts at random, as the miner calls a model of sentence-transformers."""

    device = "cpu"

    def encode_query(self, texts: list[str], **options: Any) -> np.ndarray:
        vectors = [np.random.default_rng(int(text[-1])).random(8) for text in texts]
        return np.float32([vector / np.linalg.norm(vector) for vector in vectors])

    encode_document = encode_query  # so that a question is nearest to its answer

    def similarity(self, one: Any, other: Any) -> Any:
        import torch

        return torch.as_tensor(one) @ torch.as_tensor(other).T

    def similarity_pairwise(self, one: Any, other: Any) -> Any:
        import torch

        return (torch.as_tensor(one) * torch.as_tensor(other)).sum(1)


def mined(form: str, *, scores: bool) -> Any:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.util import mine_hard_negatives

    pairs = datasets.Dataset.from_dict({"query": [*ANSWERS], "answer": [*ANSWERS.values()]})
    return mine_hard_negatives(
        pairs, Model(), num_negatives=2, output_format=form, output_scores=scores, verbose=False
    )


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("form", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
def test_mined_negatives_are_never_positives(form: str, scores: bool):
    found = mined(form, scores=scores)
    if scores and form.startswith("labeled"):
        with pytest.raises(ValueError, match="holds scores, which do not say which pairs"):
            read_training(found)
        return
    data = read_training(found)
    for row, query in enumerate(data.queries):
        assert [data.documents[d] for d in data.positives.of(row)] == [ANSWERS[query]]
        assert len(data.negatives.of(row)) == 2
    assert (data.positive_scores is not None) == scores
    if scores:
        assert np.isfinite(data.negative_scores).all()
        assert (data.negative_scores > 0.5).any()  # a threshold would take these for positives
