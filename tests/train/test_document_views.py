"""DrawWindows: what the views of documents are, what they depend on, how they train."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_set, arguments, assert_same_bits, load, losses_of, weights

from tilefold import reference
from tilefold.data import TrainingSet
from tilefold.losses import ContrastiveLoss, InvarianceLoss
from tilefold.train import (
    ContrastiveObjective,
    Draw,
    DrawRotating,
    DrawViews,
    DrawWindows,
    InvarianceObjective,
    RetrieverTrainer,
    Schedule,
    WeightedObjective,
    train_step,
)
from tilefold.train.document_views import first_words

pytestmark = pytest.mark.usefixtures("one_thread")


def windows(data: TrainingSet, words: Any = (1, 2, 3), **options: Any) -> DrawWindows:
    policy = Draw(data, group_size=3, seed=0)
    return DrawWindows(policy, words, **{"n_views": 2, "seed": 4, **options})


def width(view: str, text: str) -> int:
    assert text.startswith(view)
    return len(view.split())


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("a b c", 2, "a b"),
        ("a b c", 3, "a b c"),
        ("a b c ", 4, "a b c "),
        ("\ta \n b c", 2, "\ta \n b"),
        ("", 1, ""),
        ("  ", 2, "  "),
        ("ä\u00a0ö ü", 1, "ä"),
    ],
)
def test_a_window_ends_with_a_word_and_keeps_white_space(text, n, expected):
    assert first_words(text, n) == expected


def test_views_are_windows_of_different_widths_that_vary_from_step_to_step():
    data = a_set(6)  # texts such as "w1 w2 of w0", four words
    seen = set()
    for step in range(30):
        batch = windows(data).batch([3, 0], step=step)
        plain = Draw(data, group_size=3, seed=0).batch([3, 0], step=step)
        assert batch.documents == plain.documents
        assert len(batch.document_views) == 2
        for one, two, text in zip(*batch.document_views, batch.documents, strict=True):
            widths = width(one, text), width(two, text)
            assert widths[0] != widths[1]
            seen.add(widths)
    assert seen == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}


def test_a_document_of_few_words_is_its_own_view():
    batch = windows(a_set(6), [4, 9]).batch(range(6), step=0)
    assert batch.document_views == (batch.documents, batch.documents)


def test_windows_depend_on_seed_step_and_text_alone():
    data = a_set(12)
    policy = windows(data)

    def views(rows: Any, step: int, policy: DrawWindows = policy) -> dict[str, tuple[str, ...]]:
        batch = policy.batch(rows, step=step)
        return dict(zip(batch.documents, zip(*batch.document_views, strict=True), strict=True))

    whole = views(range(12), 5)
    alone: dict[str, tuple[str, ...]] = {}
    for row in range(11, -1, -1):
        alone |= views([row], 5)
    assert alone == whole
    assert views(range(12), 6) != whole
    assert views(range(12), 5, windows(data, seed=5)) != whole
    # The same passage for two queries has the same windows, whatever its number and its query.
    texts = list(data.documents)
    texts[13] = texts[12]  # a negative of query 0, now also the text of one of query 1
    batch = windows(replace(data, documents=texts)).batch([0, 1], step=2)
    places = [i for i, text in enumerate(batch.documents) if text == texts[12]]
    assert len(places) == 2
    assert len({view[place] for view in batch.document_views[:1] for place in places}) == 1


def test_other_data_and_views_of_queries_go_with_it():
    data = a_set(6)
    inner = DrawViews(Draw(data, group_size=2, seed=0), [["a"]] * 6, n_views=1, seed=0)
    policy = DrawWindows(inner, [2], seed=7)
    assert policy.data is data
    batch = policy.batch([1, 2], step=0)
    assert (len(batch.query_views), len(batch.document_views)) == (1, 1)
    other = a_set(6, negatives=False)
    again = policy.with_data(other)
    assert again.data is other
    assert (again.words, again.n_views, again.seed) == ([2], 1, 7)
    assert len(again.batch([1, 2], step=0).documents) == 2
    assert policy.batch([], step=0).document_views == ([],)


def test_the_invariance_loss_reads_windows_of_documents(tiny_bert):
    model = load(tiny_bert).eval()
    batch = windows(a_set()).batch(range(5), step=0)
    q = torch.from_numpy(model.encode_queries(batch.queries))
    views = [batch.documents, *batch.document_views]
    scores = torch.stack([q @ torch.from_numpy(model.encode_corpus(view)).T for view in views])
    expected = reference.consistency_losses(scores / 0.5)[0].mean()
    objective = InvarianceObjective(model, InvarianceLoss(temperature=0.5))
    torch.testing.assert_close(train_step(objective, batch).value, expected)
    whole = gradients(objective, batch, None)
    for name, gradient in gradients(objective, batch, (2, 4)).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)


def gradients(objective: Any, batch: Any, chunk_sizes: Any) -> dict[str, Any]:
    objective.zero_grad()
    train_step(objective, batch, chunk_sizes=chunk_sizes)
    return {k: p.grad for k, p in objective.named_parameters() if p.grad is not None}


def test_training_on_windows_resumes_to_the_same_bits(tiny_bert, tmp_path):
    data = a_set()

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        model = load(tiny_bert)
        objective = WeightedObjective(
            {
                "contrastive": ContrastiveObjective(model, ContrastiveLoss(1.0)),
                "invariance": InvarianceObjective(model, InvarianceLoss(temperature=1.0)),
            },
            {"invariance": Schedule(2.0, steps=4, shape="linear")},
        )
        args = arguments(folder, max_steps=7, save_strategy="steps", save_steps=3)
        trainer = RetrieverTrainer(model, args, data, objective=objective, policy=windows(data))
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    assert_same_bits(weights(whole.training_objective), weights(again.training_objective))
    assert losses_of(again)[-4:] == losses_of(whole)[-4:]


def test_the_epochs_of_a_policy_below_are_checked(tiny_bert, tmp_path):
    data = a_set()
    model = load(tiny_bert)
    policy = DrawWindows(DrawRotating(data, n_negatives=1, steps_per_epoch=9, seed=0), [2], seed=0)
    objective = InvarianceObjective(model, InvarianceLoss())
    trainer = RetrieverTrainer(model, arguments(tmp_path), data, objective=objective, policy=policy)
    with pytest.raises(ValueError, match="the policy has steps_per_epoch 9, but an epoch"):
        trainer.train()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: windows(d, [0, 2]), ValueError, "words must be at least 1, got 0"),
        (lambda d: windows(d, [2.5]), TypeError, "words must be an integer, got float"),
        (lambda d: windows(d, [2, 2]), ValueError, r"words must be different widths, got \[2, 2\]"),
        (lambda d: windows(d, n_views=0), ValueError, "n_views must be at least 1, got 0"),
        (lambda d: windows(d, n_views=4), ValueError, "at most the number of widths, 3, got 4"),
        (lambda d: windows(d, []), ValueError, "at most the number of widths, 0, got 2"),
        (lambda d: windows(d, seed=-1), ValueError, "seed must be 0 or more, got -1"),
    ],
)
def test_windows_that_cannot_be_drawn_are_refused(
    make: Callable[[TrainingSet], Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=f"DrawWindows: .*{message}"):
        make(a_set(3))
