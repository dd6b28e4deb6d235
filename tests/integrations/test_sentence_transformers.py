"""Losses for sentence-transformers, against its own and in its trainer, with a model made here."""

import json
import random
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sentence_transformers = pytest.importorskip("sentence_transformers")
datasets = pytest.importorskip("datasets")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from tilefold.integrations.mini_batches import mini_batches
from tilefold.integrations.sentence_transformers import (
    CachedInBatchContrastiveLoss,
    InBatchContrastiveLoss,
)

WORDS = [f"w{i}" for i in range(60)]
CLASSES = [InBatchContrastiveLoss, CachedInBatchContrastiveLoss]

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Of torch, datasets and others about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, and a vocabulary of sixty words."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = {
        w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    }
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), intermediate_size=32, max_position_embeddings=32, **sizes
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(folder: Path) -> SentenceTransformer:
    """With dropout of 0.1, in training mode."""
    return SentenceTransformer(str(folder), device="cpu").train()


def texts(n: int, *, columns: int = 2, seed: int = 0) -> list[list[str]]:
    """Columns of n different texts of four to ten words; those of a row begin with the same two."""
    rng = random.Random(seed)
    heads = [f"{a} {b}" for a, b in zip(rng.sample(WORDS, n), rng.sample(WORDS, n), strict=True)]
    return [
        [" ".join([head, *rng.choices(WORDS, k=rng.randrange(2, 9))]) for head in heads]
        for _ in range(columns)
    ]


def features(model: SentenceTransformer, columns: list[list[str]]) -> list[dict[str, Any]]:
    tokenize = getattr(model, "preprocess", None) or model.tokenize
    return [tokenize(column) for column in columns]


def outcome(loss: nn.Module, columns: list[list[str]], scale: float = 1.0) -> list[Tensor]:
    """The loss and the gradients of all parameters."""
    loss.zero_grad()
    torch.manual_seed(5)
    value = loss(features(loss.model, columns), None)
    (scale * value).backward()
    return [value.detach(), *(p.grad for p in loss.parameters() if p.grad is not None)]


def assert_same(one: list[Tensor], other: list[Tensor], **tolerance: float) -> None:
    assert len(one) == len(other) > 1
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, **tolerance or {"rtol": 1e-4, "atol": 1e-5})


# ---- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("columns", [2, 3, 5])
def test_it_equals_the_loss_of_sentence_transformers(model, make, columns):
    model.eval()
    batch = texts(12, columns=columns)
    theirs = losses.MultipleNegativesRankingLoss(model, scale=20.0)
    assert_same(outcome(make(model), batch), outcome(theirs, batch))
    ours = make(model, normalize=False, temperature=2.0)
    dot = lambda a, b: a @ b.T  # noqa: E731
    theirs = losses.MultipleNegativesRankingLoss(model, scale=0.5, similarity_fct=dot)
    assert_same(outcome(ours, batch), outcome(theirs, batch))


@pytest.mark.parametrize("make", CLASSES)
def test_symmetric_is_theirs_in_both_directions(model, make):
    model.eval()
    batch = texts(12, columns=3)
    theirs = losses.MultipleNegativesRankingLoss(
        model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    assert_same(outcome(make(model, symmetric=True), batch), outcome(theirs, batch))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("columns", [2, 3, 5])
def test_dropout_is_that_of_sentence_transformers(model, columns, seed):
    """Positives and negatives take random numbers in one forward pass, as they do there."""
    batch = texts(10, columns=columns, seed=seed)
    passes = []
    model.register_forward_pre_hook(lambda _, args: passes.append(len(args[0]["input_ids"])))
    ours = outcome(InBatchContrastiveLoss(model), batch)
    assert passes == [10, 10 * (columns - 1)]
    theirs = outcome(losses.MultipleNegativesRankingLoss(model, scale=20.0), batch)
    assert passes[2:] == passes[:2]
    assert_same(ours, theirs)
    cached = CachedInBatchContrastiveLoss(model, mini_batch_size=4)
    theirs = losses.CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=4)
    assert_same(outcome(cached, batch), outcome(theirs, batch))


def test_losses_that_hand_on_layers_take_it_inside(model):
    """AdaptiveLayerLoss writes into the features of each column, which are then not joined."""
    model.eval()
    batch, found = texts(6, columns=3), []
    for inner in (InBatchContrastiveLoss(model), losses.MultipleNegativesRankingLoss(model)):
        random.seed(0)
        found.append(outcome(losses.AdaptiveLayerLoss(model, inner), batch))
    assert_same(*found)


@pytest.mark.parametrize("learn", [False, True])
def test_caching_changes_nothing_with_dropout(model, learn):
    """One mini-batch takes the random numbers that the whole batch takes."""
    batch = texts(12)
    options: dict[str, Any] = {"learn_temperature": learn, "symmetric": True}
    plain = outcome(InBatchContrastiveLoss(model, **options), batch, scale=0.5)
    whole = outcome(
        CachedInBatchContrastiveLoss(model, mini_batch_size=12, **options), batch, scale=0.5
    )
    assert_same(whole, plain, rtol=1e-5, atol=1e-6)
    model.eval()
    assert (
        outcome(InBatchContrastiveLoss(model, **options), batch, scale=0.5)[0] != plain[0]
    ).all()


@pytest.mark.parametrize("size", [1, 5, 12])
def test_mini_batches_change_nothing_but_dropout(model, size):
    model.eval()
    batch = texts(12, columns=3)
    plain = outcome(InBatchContrastiveLoss(model), batch)
    assert_same(outcome(CachedInBatchContrastiveLoss(model, mini_batch_size=size), batch), plain)


def test_dropout_is_the_same_in_both_passes(model):
    """Else the gradient of a loss of mini-batches would not be that of its own value."""
    batch = texts(6)
    loss = CachedInBatchContrastiveLoss(model, mini_batch_size=2)
    weight = next(p for n, p in model.named_parameters() if n.endswith("embeddings.LayerNorm.bias"))
    gradient = outcome(loss, batch) and weight.grad.clone()
    direction, step = gradient / gradient.norm(), 1e-2
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * direction
            torch.manual_seed(5)
            values.append(loss(features(model, batch), None))
            weight -= sign * step * direction
    slope = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(slope, gradient.norm(), rtol=0.02, atol=0)


def test_without_gradients_each_text_is_encoded_once(model):
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    batch = features(model, texts(6))
    loss = CachedInBatchContrastiveLoss(model, mini_batch_size=2)
    with torch.no_grad():
        value = loss(batch, None)
    assert not value.requires_grad
    assert calls == [False] * 6
    loss(batch, None).backward()
    assert calls == [False] * 12 + [True] * 6


def test_mini_batches_are_cut_to_their_longest_text(model):
    widths = []
    model.register_forward_pre_hook(lambda _, args: widths.append(args[0]["input_ids"].shape))
    column = ["w1", "w2 w3", "w1 w2 w3 w4 w5", "w7"]
    with torch.no_grad():
        CachedInBatchContrastiveLoss(model, mini_batch_size=2)(features(model, [column] * 2), None)
    assert widths == [(2, 4), (2, 7)] * 2


def test_activations_of_one_mini_batch_are_held(model):
    alive, most = weakref.WeakSet(), []
    model[0].register_forward_hook(lambda *args: alive.add(args[2]["token_embeddings"]))
    model.register_forward_pre_hook(lambda *_: most.append(len(alive)))
    loss = CachedInBatchContrastiveLoss(model, mini_batch_size=1)
    loss(features(model, texts(4)), None).backward()
    assert len(most) == 16
    assert max(most) <= 1


def test_a_frozen_model_trains_its_temperature(model):
    model.requires_grad_(False)
    for make in CLASSES:
        loss = make(model, learn_temperature=True)
        for _ in range(2):
            loss(features(model, texts(4)), None).backward()
        assert loss.objective.log_scale.grad != 0
        assert all(p.grad is None for p in model.parameters())


def test_under_autocast_backward_may_come_outside(model):
    model.eval()
    batch, results = texts(6), []
    for make in CLASSES:
        loss = make(model)
        loss.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(features(model, batch), None)
        value.backward()
        results.append(
            [value.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
        )
    assert_same(*results, rtol=0.05, atol=0.02)


def test_matryoshka_loss_takes_it_inside(model):
    model.eval()
    batch, dims = texts(8, columns=3), [16, 8, 4]
    ours = losses.MatryoshkaLoss(model, InBatchContrastiveLoss(model), dims)
    theirs = losses.MatryoshkaLoss(model, losses.MultipleNegativesRankingLoss(model), dims)
    assert_same(outcome(ours, batch), outcome(theirs, batch))
    with pytest.raises(TypeError, match=r"MatryoshkaLoss cannot .* use InBatchContrastiveLoss"):
        losses.MatryoshkaLoss(model, CachedInBatchContrastiveLoss(model), dims)


def test_ddp_exchanges_gradients_once_for_each_column(model, tmp_path):
    distributed = torch.distributed
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model.eval()
        batch = texts(6, columns=3)
        plain = outcome(InBatchContrastiveLoss(model), batch)
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        exchanged = []

        def exchange(_: Any, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
            exchanged.append(bucket.index())
            future: torch.futures.Future[Tensor] = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        wrapped.register_comm_hook(None, exchange)
        loss = CachedInBatchContrastiveLoss(wrapped, mini_batch_size=2)
        loss.zero_grad()
        value = loss(features(model, batch), None)
        value.backward()
        found = [value.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
        assert_same(found[:1] * 2, plain[:1] * 2)
        assert exchanged.count(0) == 3
    finally:
        distributed.destroy_process_group()


# ---- duplicates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_repeated_texts_are_no_negatives(model, make, symmetric):
    """As the matrix says with the cells of equal texts left out."""
    model.eval()
    anchors, positives, negatives = texts(7, columns=3)
    anchors[3] = anchors[0]  # its document is one for both
    positives[4] = positives[1]
    negatives[2] = positives[5]
    negatives[6] = anchors[2]  # a text is no negative of itself
    batch = [anchors, positives, negatives]
    documents = positives + negatives
    spared = {(0, 3), (3, 0), (1, 4), (4, 1), (5, 9), (2, 13)}
    q, d = (
        torch.nn.functional.normalize(torch.tensor(model.encode(part)), dim=1)
        for part in (anchors, documents)
    )
    scores = q @ d.T / 0.05
    for cell in spared:
        scores[cell] = -torch.inf
    expected = nn.functional.cross_entropy(scores, torch.arange(7))
    if symmetric:
        backwards = nn.functional.cross_entropy(scores[:, :7].T, torch.arange(7))
        expected = (expected + backwards) / 2
    loss = make(model, symmetric=symmetric)
    torch.testing.assert_close(loss(features(model, batch), None), expected)
    plain = make(model, symmetric=symmetric, mask_duplicates=False)(features(model, batch), None)
    assert plain > expected + 0.01


def test_an_anchor_may_be_its_own_positive(model):
    """As in SimCSE, where dropout alone tells the two apart."""
    (column,) = texts(6, columns=1)
    batch = features(model, [column, column])
    results = []
    for mask in (True, False):
        torch.manual_seed(0)
        results.append(InBatchContrastiveLoss(model, mask_duplicates=mask)(batch, None))
    assert results[0] == results[1] > 0


def test_padding_does_not_tell_texts_apart(model):
    """Columns are padded each for itself, on either side."""
    results = []
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        short, long = ["w1 w2", "w3"], ["w3", "w1 w2 w3 w4 w5 w6"]
        with torch.no_grad():
            value = InBatchContrastiveLoss(model.eval())(features(model, [short, long]), None)
        results.append(value)
        # anchor 1 is document 0, so nothing is left to compare its positive with
        q, d = (torch.tensor(model.encode(x)) for x in (short, long))
        scores = nn.functional.normalize(q, dim=1) @ nn.functional.normalize(d, dim=1).T / 0.05
        one = nn.functional.cross_entropy(scores[:1], torch.tensor([0]))
        torch.testing.assert_close(value, one / 2)


def test_static_embeddings_are_told_apart_by_offsets():
    class Bag(nn.EmbeddingBag):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            rows = super().forward(features["input_ids"], features["offsets"])
            return {"sentence_embedding": rows}

    def column(*texts: list[int]) -> dict[str, Tensor]:
        offsets = torch.tensor([0, *map(len, texts[:-1])]).cumsum(0)
        return {
            "input_ids": torch.tensor([token for text in texts for token in text]),
            "offsets": offsets,
        }

    torch.manual_seed(0)
    model = Bag(9, 4)
    batch = [column([1], [2, 3], [1]), column([4, 5], [6], [7])]
    value = InBatchContrastiveLoss(model)(batch)
    q, d = (nn.functional.normalize(model(x)["sentence_embedding"], dim=1) for x in batch)
    scores = q @ d.T / 0.05
    scores[0, 2] = scores[2, 0] = -torch.inf
    torch.testing.assert_close(value, nn.functional.cross_entropy(scores, torch.arange(3)))
    with pytest.raises(ValueError, match=r"need features with a row for each text.*use InBatch"):
        CachedInBatchContrastiveLoss(model)(batch)


def test_texts_told_apart_by_more_than_tokens_are_cut_alike():
    """Positions of words have an axis more; names come as lists, and some hold for all texts."""
    features = {
        "input_ids": torch.arange(15).reshape(3, 5),
        "attention_mask": torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]),
        "bbox": torch.arange(60).reshape(3, 5, 4),
        "task": ["a", "b", "c"],
        "prompt": "one for all",
        "prompt_length": torch.tensor([2]),
    }
    parts = mini_batches(features, 2, "op")
    shapes = [[tuple(part[k].shape) for k in ("input_ids", "bbox")] for part in parts]
    assert shapes == [[(2, 2), (2, 2, 4)], [(1, 3), (1, 3, 4)]]
    assert torch.equal(parts[1]["bbox"], features["bbox"][2:, :3])
    assert [part["task"] for part in parts] == [["a", "b"], ["c"]]
    assert all(part["prompt"] == "one for all" and part["prompt_length"] == 2 for part in parts)


# ---- the trainer ---------------------------------------------------------------------------------


def train(
    model: SentenceTransformer, loss: nn.Module, output: Path, **options: Any
) -> sentence_transformers.SentenceTransformerTrainer:
    anchors, positives, negatives = texts(48, columns=3)
    data = datasets.Dataset.from_dict(
        {"anchor": anchors, "positive": positives, "negative": negatives[1:] + negatives[:1]}
    )
    given = {
        "max_steps": 12,
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        **options,
    }
    args = sentence_transformers.SentenceTransformerTrainingArguments(
        output_dir=str(output),
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **given,
    )
    trainer = sentence_transformers.SentenceTransformerTrainer(
        model=model, args=args, train_dataset=data, eval_dataset=data, loss=loss
    )
    trainer.train()
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("make", CLASSES)
def test_the_trainer_trains(model, make, tmp_path):
    loss = make(model, learn_temperature=True)
    before = loss.objective.log_scale.item()
    trainer = train(model, loss, tmp_path, learning_rate_mapping={"log_scale": 0.02})
    values = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(values[-3:]) < 0.7 * sum(values[:3])
    assert abs(loss.objective.log_scale - before) > 1e-4
    assert trainer.evaluate()["eval_loss"] > 0
    trainer.model.save_pretrained(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert f"loss:{make.__name__}" in card
    assert '"learn_temperature": true' in card
    assert loss.citation.strip() in card


@pytest.mark.slow
def test_a_learned_temperature_gets_the_gradients_of_its_own_step(model, tmp_path):
    """Those of two batches, where they are accumulated, and none of the step before."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(InBatchContrastiveLoss):
        def forward(self, *args: Any) -> Tensor:
            value, own = super().forward(*args), self.objective.log_scale
            (alone,) = torch.autograd.grad(value, own, retain_graph=True)
            seen.append((alone, 0 if own.grad is None else own.grad.clone()))
            return value

    loss = Watched(model, learn_temperature=True)
    options = {"per_device_train_batch_size": 12, "gradient_accumulation_steps": 2}
    train(model, loss, tmp_path, max_steps=2, **options)
    assert len(seen) == 4
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert first[1] == 0
        torch.testing.assert_close(second[1], first[0] / 2)


@pytest.mark.slow
@pytest.mark.parametrize("make", CLASSES)
def test_the_trainer_compiles(model, make, tmp_path):
    options = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 2}
    trainer = train(model, make(model), tmp_path, **options)
    assert trainer.state.log_history[0]["loss"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at embeddings
@pytest.mark.parametrize("make", CLASSES)
def test_a_compiled_loss_is_the_same(model, make):
    model.eval()
    batch = texts(6)
    batch[1][2] = batch[1][0]
    plain = make(model)
    expected = outcome(plain, batch)
    plain.zero_grad()
    value = torch.compile(plain, backend="eager")(features(model, batch))
    value.backward()
    found = [p.grad for p in plain.parameters() if p.grad is not None]
    assert_same([value.detach(), *found], expected)


@pytest.mark.parametrize("make", CLASSES)
def test_the_configuration_is_json(model, make):
    config = make(model, temperature=0.1, symmetric=True).get_config_dict()
    assert json.loads(json.dumps(config)) == config
    assert {
        "temperature": 0.1,
        "symmetric": True,
        "mask_duplicates": True,
    }.items() <= config.items()
    assert make(model, **config).get_config_dict() == config


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: (batch[:1], None), "expected two columns or more, .* got 1"),
        (lambda batch: (batch, torch.ones(3)), "labels are not used, .* remove their column"),
        (
            lambda batch: ([{"sentence_embedding": torch.ones(3, 4)}] * 2, None),
            r".* by input_ids alone, .* \['sentence_embedding'\]; pass mask_duplicates=False",
        ),
        (
            lambda batch: ([{**batch[0], "pixel_values": torch.ones(3, 4)}] * 2, None),
            r".* by input_ids alone, .* 'pixel_values', .*; pass mask_duplicates=False",
        ),
        (
            lambda batch: ([{"input_ids": torch.arange(5)}] * 2, None),
            r"mask_duplicates needs input_ids .* got shapes \(5,\).* pass mask_duplicates=False",
        ),
    ],
)
def test_wrong_input_is_named(
    model: SentenceTransformer,
    make: type[InBatchContrastiveLoss],
    change: Callable[..., Any],
    message: str,
):
    with pytest.raises(ValueError, match=f"^{make.__name__}: {message}"):
        make(model)(*change(features(model, texts(3))))


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("mask", [True, False])
def test_columns_of_different_length_are_named(model, make, mask):
    anchors, positives, negatives = texts(6, columns=3)
    batch = features(model, [anchors, positives, negatives[:5]])
    message = f"^{make.__name__}: .* the anchors, has 6 rows, and column 2 has 5"
    with pytest.raises(ValueError, match=message):
        make(model, mask_duplicates=mask)(batch)


def test_embeddings_elsewhere_are_refused_with_the_way_out():
    column = {"sentence_embedding": torch.ones(3, 4, device="meta")}
    loss = InBatchContrastiveLoss(nn.Identity(), mask_duplicates=False)
    with pytest.raises(
        ValueError, match=r"on cpu, got meta; .* use_cpu=True, or with MultipleNegative"
    ):
        loss([column, column])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mini_batch_size": 0}, ValueError, "mini_batch_size must be at least 1, got 0"),
        ({"mini_batch_size": 2.5}, TypeError, "mini_batch_size must be an int, got float"),
        ({"temperature": 0}, ValueError, "temperature must be positive, got 0"),
        ({"symmetric": 1}, TypeError, "symmetric must be True or False, got int"),
        ({"scale": 20.0}, TypeError, "scale"),
    ],
)
def test_wrong_options_are_named(model, options, error, message):
    with pytest.raises(error, match=message):
        CachedInBatchContrastiveLoss(model, **options)


def test_all_options_are_shown():
    shown = repr(CachedInBatchContrastiveLoss(nn.Identity(), temperature=0.1, normalize=False))
    assert "normalize=False, mask_duplicates=True, mini_batch_size=32" in shown
    assert "temperature=0.1, mode='each', symmetric=False, reduction='mean'" in shown
