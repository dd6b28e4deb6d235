"""Dropout in evaluation: masks are those of training, and the model is left as it was."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from tilefold.confidence import (
    DropoutConfidence,
    EncodedCorpus,
    Margin,
    ProbeConfidence,
    RewriteConfidence,
    TopProbability,
    active_dropout,
)
from tilefold.confidence.dropout_confidence import dropout_embeddings
from tilefold.confidence.query_states import query_states
from tilefold.models import BiEncoder, Encoder
from tilefold.ragged_lists import Lists
from tiny_language_models import CONFIGS

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(0)
DOCUMENTS = [" ".join(f"w{i}" for i in RNG.integers(100, size=8)) for _ in range(40)]
NOISE = [" ".join(f"w{i}" for i in RNG.integers(100, size=8)) for _ in range(30)]


@pytest.fixture
def encoder(tiny_bert, stirred) -> Encoder:
    encoder = Encoder.from_pretrained(tiny_bert, max_length=24)
    stirred(encoder.model)
    return encoder


def state_of(model) -> list:
    """Modes, rates and weights of all modules."""
    rates = [getattr(module, "p", None) for module in model.modules()]
    modes = [module.training for module in model.modules()]
    return [rates, modes, [weight.clone() for weight in model.state_dict().values()]]


def assert_unchanged(model, before) -> None:
    now = state_of(model)
    assert now[:2] == before[:2]
    assert all(map(torch.equal, now[2], before[2]))


def test_masks_are_those_of_training_mode_with_the_same_seed(encoder):
    texts = DOCUMENTS[:5]
    found = dropout_embeddings(encoder, texts, passes=3, rate=None, seed=7)
    order = sorted(range(5), key=lambda row: -len(encoder.tokenize(texts)[row]["input_ids"]))
    batch = encoder.pad([encoder.tokenize(texts)[row] for row in order])
    encoder.train()
    torch.manual_seed(7)
    with torch.no_grad():
        expected = [encoder(batch).numpy() for _ in range(3)]
    np.testing.assert_array_equal(found[:, order], expected)
    assert (np.abs(found[0] - found[1]).max(1) > 1e-3).all()


def test_modes_rates_and_generators_come_back_even_after_errors(encoder, monkeypatch):
    encoder.model.encoder.layer[0].train()  # a mode that differs from that of the whole
    before, random = state_of(encoder), torch.get_rng_state()
    dropout_embeddings(encoder, DOCUMENTS[:3], passes=2, rate=0.3, seed=1)
    assert_unchanged(encoder, before)
    assert torch.equal(torch.get_rng_state(), random)

    def fails(*_, **__):
        torch.rand(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder.model.encoder.layer[1], "forward", fails)
    with pytest.raises(KeyboardInterrupt):
        dropout_embeddings(encoder, DOCUMENTS[:3], passes=2, rate=0.3, seed=1)
    assert_unchanged(encoder, before)
    assert torch.equal(torch.get_rng_state(), random)


def test_seeds_alone_decide_the_masks(encoder):
    options = {"passes": 2, "rate": 0.2}
    torch.manual_seed(1)
    one = dropout_embeddings(encoder, DOCUMENTS[:4], seed=0, **options)
    torch.manual_seed(2)
    np.testing.assert_array_equal(
        dropout_embeddings(encoder, DOCUMENTS[:4], seed=0, **options), one
    )
    assert not np.array_equal(dropout_embeddings(encoder, DOCUMENTS[:4], seed=1, **options), one)


def test_a_rate_is_that_of_every_place(encoder):
    seen = {}
    with active_dropout(encoder, 0.25):
        for name, module in encoder.named_modules():
            if isinstance(module, torch.nn.Dropout):
                seen[name] = module.p, module.training
    assert len(seen) > 4
    assert set(seen.values()) == {(0.25, True)}
    assert any("attention.self" in name for name in seen)


def test_dropout_of_attention_is_active(encoder):
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5 if name.endswith("attention.self.dropout") else 0.0
    found = dropout_embeddings(encoder, DOCUMENTS[:3], passes=2, rate=None, seed=0)
    assert (np.abs(found[0] - found[1]).max(1) > 1e-3).all()


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel"])
def test_rates_that_attention_has_as_numbers_are_set_and_restored(name):
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**CONFIGS[name])).eval()
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        before = model(ids).logits
        with active_dropout(model, 0.5):
            assert not torch.equal(model(ids).logits, model(ids).logits)
        assert torch.equal(model(ids).logits, before)
    assert not model.training


def test_normalisation_keeps_its_statistics():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)).eval()
    with active_dropout(model):
        model(torch.randn(8, 3))
        assert not model[0].training
    assert model[0].num_batches_tracked == 0


def test_models_without_dropout_need_a_rate(encoder):
    with active_dropout(encoder, 0.1):
        pass
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with pytest.raises(ValueError, match="the model has no dropout; pass a rate"):
        dropout_embeddings(encoder, ["w1"], passes=2, rate=None, seed=0)
    dropout_embeddings(encoder, ["w1"], passes=2, rate=0.1, seed=0)
    linear = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with (
        pytest.raises(ValueError, match="the model has no dropout; there is no place for it"),
        active_dropout(linear, 0.1),
    ):
        pass
    for rate in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="rate must be above 0 and below 1"):
            DropoutConfidence(rate)
    with pytest.raises(ValueError, match="passes must be at least 2, got 1"):
        DropoutConfidence(passes=1)


@pytest.mark.parametrize("rate", [None, 0.2])
def test_noise_queries_have_a_lower_confidence(encoder, rate):
    corpus = EncodedCorpus(BiEncoder(encoder), DOCUMENTS, progress=False)
    queries, estimator = [*DOCUMENTS[:30], *NOISE], DropoutConfidence(rate, passes=4)
    with pytest.raises(NotFittedError, match="DropoutConfidence"):
        estimator.scores(corpus, queries)
    labels = [[row] for row in [*range(30), *RNG.integers(40, size=30).tolist()]]
    estimator.fit(corpus, queries, Lists.pack(labels))
    found = estimator.distribution(corpus, queries)
    assert roc_auc_score(np.arange(60) < 30, found.top_probability) > 0.9
    assert (found.mutual_information > 0).all()
    np.testing.assert_array_equal(estimator.scores(corpus, queries), found.top_probability)


def test_no_queries_have_no_confidence(encoder):
    corpus = EncodedCorpus(BiEncoder(encoder), DOCUMENTS, progress=False)
    queries = [*DOCUMENTS[:20], *NOISE[:20]]
    labels = [[row] if row < 20 else [] for row in range(40)]
    probe = ProbeConfidence().fit(corpus, queries, Lists.pack(labels))
    rewrites = RewriteConfidence({}, 1.0)
    for estimator in (DropoutConfidence(temperature=1.0), Margin(), TopProbability(1.0), probe):
        assert estimator.scores(corpus, []).shape == (0,)
    assert rewrites.scores(corpus, []).shape == (0,)
    assert rewrites.distribution(corpus, []).top_document.dtype == np.int64


# ---- states of layers ----------------------------------------------------------------------------


def test_states_are_those_of_a_text_alone_in_the_order_of_texts(encoder):
    texts = ["w1", " ".join(DOCUMENTS[:2]), "w2 w3", "w4 w5 w6 w7", "w8"]
    found = query_states(encoder, texts, "encoder.layer.0", rows="mean", batch_size=2)
    for text, row in zip(texts, found, strict=True):
        batch = encoder.pad(encoder.tokenize([text]))
        with torch.no_grad():
            states = encoder.run(batch, output_hidden_states=True).hidden_states
        np.testing.assert_allclose(row, states[1][0].mean(0).numpy(), atol=1e-5)
    first = query_states(encoder, texts, "encoder.layer.0", rows="cls")
    assert not np.allclose(first, found)
    with pytest.raises(ValueError, match=r"expected states of one module for 'encoder\.layer\.\*'"):
        query_states(encoder, texts, "encoder.layer.*", rows="mean")


def test_a_probe_reads_a_layer(encoder):
    corpus = EncodedCorpus(BiEncoder(encoder), DOCUMENTS, progress=False)
    # Queries about w0 have no relevant document.
    queries = [*DOCUMENTS[:30], *(f"w0 {text}" for text in NOISE)]
    labels = Lists.pack([[row] if row < 30 else [] for row in range(60)])
    probe = ProbeConfidence(site="encoder.layer.0", rows="cls", folds=3)
    found = probe.fit(corpus, queries, labels).scores(corpus, queries)
    assert probe.features(corpus, queries).shape == (60, 32)
    assert roc_auc_score(np.arange(60) < 30, found) > 0.9
