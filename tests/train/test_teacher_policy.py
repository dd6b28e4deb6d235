"""DrawTeacher: scores from coarse embeddings, for drawn and for refreshed negatives."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import (
    a_scored_set,
    a_set,
    arguments,
    assert_same_bits,
    load,
    losses_of,
    weights,
)

from tilefold.losses import AlignmentLoss
from tilefold.ragged_lists import Lists
from tilefold.train import (
    DistillationObjective,
    Draw,
    DrawSeveral,
    DrawTeacher,
    DrawViews,
    RetrieverTrainer,
    train_step,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def coarse(data: Any, dim: int = 5) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    sizes = len(data), len(data.documents)
    return tuple(rng.standard_normal((size, dim)).astype(np.float32) for size in sizes)


def lists_of(batch: Any) -> list[list[int]]:
    offsets, indices, _ = batch.teacher
    return [indices[a:b].tolist() for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize("candidates", ["own", "batch"])
@pytest.mark.parametrize("several", [False, True])
def test_scores_are_inner_products_of_the_drawn_rows(candidates, several):
    data = a_set(6, positives=2)
    queries, documents = coarse(data)
    inner = (
        DrawSeveral(data, n_negatives=1, seed=0) if several else Draw(data, group_size=3, seed=0)
    )
    rows = [4, 0, 5, 2]
    batch = DrawTeacher(inner, queries, documents, candidates=candidates).batch(rows, step=1)
    plain = inner.batch(rows, step=1)
    assert batch.documents == plain.documents
    assert plain.teacher is None
    row_of = {text: row for row, text in enumerate(data.documents)}
    offsets, indices, scores = batch.teacher
    for number, row in enumerate(rows):
        for place in range(offsets[number], offsets[number + 1]):
            document = documents[row_of[batch.documents[indices[place]]]].astype(np.float64)
            expected = sum(float(a) * float(b) for a, b in zip(queries[row], document, strict=True))
            assert float(scores[place]) == pytest.approx(expected, rel=1e-6)
    if candidates == "own":
        assert [i for part in lists_of(batch) for i in part] == list(range(len(batch.documents)))
    else:
        texts = [sorted(batch.documents[i] for i in part) for part in lists_of(batch)]
        assert texts == [sorted(set(batch.documents))] * len(rows)
    assert torch.equal(batch.coarse.queries, torch.from_numpy(queries[rows]))
    drawn = [row_of[text] for text in batch.documents]
    assert torch.equal(batch.coarse.documents, torch.from_numpy(documents[drawn]))


def test_the_query_itself_is_no_candidate_unless_it_is_a_positive():
    data = a_set(4)
    texts = list(data.documents)
    texts[4], texts[0] = data.queries[0], data.queries[0]  # a negative and the positive of query 0
    texts[5] = data.queries[1]  # a negative of query 1
    data = replace(data, documents=texts)
    inner = Draw(data, group_size=3, seed=0)
    own = DrawTeacher(inner, *coarse(data)).batch([0, 1], step=0)
    found = [[own.documents[i] for i in part] for part in lists_of(own)]
    assert [len(part) for part in found] == [2, 2]
    assert found[0][0] == data.queries[0]
    assert data.queries[1] not in found[1]
    every = DrawTeacher(inner, *coarse(data), candidates="batch").batch([0, 1], step=0)
    found = [[every.documents[i] for i in part] for part in lists_of(every)]
    assert data.queries[0] in found[0]
    assert data.queries[1] in found[0]
    assert data.queries[1] not in found[1]


def test_scores_of_a_query_do_not_depend_on_the_batch():
    data = a_set(12)
    policy = DrawTeacher(Draw(data, group_size=3, seed=0), *coarse(data, 33))
    whole = policy.batch(range(12), step=4).teacher
    for row in range(12):
        alone = policy.batch([row], step=4).teacher.scores
        assert torch.equal(alone, whole.scores[whole.offsets[row] : whole.offsets[row + 1]])


def test_other_negatives_have_scores_and_views_stay():
    data = a_set(6)
    queries, documents = coarse(data)
    views = DrawViews(Draw(data, group_size=2, seed=0), [["a", "b"]] * 6, n_views=1, seed=5)
    policy = DrawTeacher(views, queries, documents)
    others = data.with_negatives(Lists.pack([[(i + 1) % 6] for i in range(6)]))
    again = policy.with_data(others)
    assert again.data is others
    batch = again.batch([2], step=0)
    assert batch.query_views
    expected = documents[[2, 3]] @ queries[2]
    np.testing.assert_allclose(batch.teacher.scores, expected, rtol=1e-5)


def test_a_refresh_with_a_coarse_teacher_resumes_to_the_same_bits(tiny_bert, tmp_path):
    data = a_set()
    schedule = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3}
    mined = {"refresh_steps": 2, "refresh_depth": 8, "refresh_negatives": 4}

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        model = load(tiny_bert)
        loss = AlignmentLoss(0.5, teacher_temperature=2.0)
        trainer = RetrieverTrainer(
            model,
            arguments(folder, **schedule, **mined),
            data,
            objective=DistillationObjective(model, loss),
            policy=DrawTeacher(Draw(data, group_size=3, seed=0), *coarse(data)),
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    assert whole.draw.data is not data  # negatives were mined
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    assert_same_bits(weights(whole.training_objective), weights(again.training_objective))
    assert losses_of(again)[-4:] == losses_of(whole)[-4:]


def test_a_coarse_teacher_is_distilled(tiny_bert):
    data = a_set()
    model = load(tiny_bert)
    objective = DistillationObjective(model, AlignmentLoss(0.5, teacher_temperature=2.0))
    policy = DrawTeacher(Draw(data, group_size=3, seed=0), *coarse(data), candidates="batch")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    values = []
    for _ in range(30):
        values.append(float(train_step(objective, policy.batch(range(12), step=0)).value))
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.7 * values[0]


def test_arguments_that_do_not_fit_are_refused():
    data = a_set(4)
    policy, (queries, documents) = Draw(data, group_size=2, seed=0), coarse(data)
    with pytest.raises(ValueError, match="DrawTeacher: candidates must be 'own' or 'batch', got"):
        DrawTeacher(policy, queries, documents, candidates="all")
    with pytest.raises(ValueError, match="DrawTeacher: expected 4 embeddings of queries, got 3"):
        DrawTeacher(policy, queries[:3], documents)
    with pytest.raises(ValueError, match="expected 12 embeddings of documents, got 4"):
        DrawTeacher(policy, queries, documents[:4])
    with pytest.raises(ValueError, match="queries have dim 4 but documents have dim 5"):
        DrawTeacher(policy, queries[:, :4].copy(), documents)
    with pytest.raises(TypeError, match="DrawTeacher: queries must be float32, got int8"):
        DrawTeacher(policy, queries.astype(np.int8), documents)
    scored = Draw(a_scored_set(n=4), group_size=2, seed=0)
    with pytest.raises(ValueError, match="expected a training set without positive_scores"):
        DrawTeacher(scored, queries, documents)
    broken = documents.copy()
    broken[1] = np.nan
    with pytest.raises(ValueError, match="got nan for query 'q1' and document 'd1'"):
        DrawTeacher(policy, queries, broken).batch([0, 1], step=0)

    class Bare:
        data = policy.data

        def batch(self, rows: Any, *, step: int) -> Any:
            return policy.batch(rows, step=step)._replace(document_rows=None)

    with pytest.raises(ValueError, match="batches have document_rows and own_candidates, got Bare"):
        DrawTeacher(Bare(), queries, documents).batch([0], step=0)
