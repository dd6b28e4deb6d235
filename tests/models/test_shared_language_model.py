"""A retriever and a generator with an adapter each over one model in memory."""

from pathlib import Path

import numpy as np
import pytest

from tiny_language_models import save

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")
peft = pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")

from tilefold.mechanisms import layer_rows
from tilefold.models import BiEncoder, CausalLM, Encoder, add_lora

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["the red fox", "a blue hen sleeps over the barn", "fox"]
NAMES = ["LlamaForCausalLM", "GPT2LMHeadModel"]


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("model"))


def pair(folder: Path) -> tuple[CausalLM, Encoder]:
    """Two adapters over one model, which both change it."""
    lm = CausalLM.from_pretrained(folder)
    add_lora(lm, r=2, name="generation")
    encoder = Encoder(lm.model, lm.tokenizer, pooling="last", append_eos=True)
    add_lora(encoder, r=3, name="retrieval")
    generator = torch.Generator().manual_seed(1)
    for name, weight in lm.model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(generator=generator)
    return lm, encoder


def scores(lm: CausalLM) -> np.ndarray:
    return lm.log_likelihood(TEXTS, [" runs", " and a hen", " sleeps"]).sum


def test_a_language_model_is_encoded_without_its_head(folder: Path):
    lm = CausalLM.from_pretrained(folder)
    shared = Encoder(lm.model, lm.tokenizer, pooling="last")
    alone = Encoder.from_pretrained(folder, pooling="last")
    np.testing.assert_array_equal(shared.encode(TEXTS), alone.encode(TEXTS))
    assert shared.fingerprint() == alone.fingerprint()
    assert next(shared.model.parameters()) is next(lm.model.parameters())


def test_each_runs_with_its_own_adapter(folder: Path):
    lm, encoder = pair(folder)
    assert encoder.model is lm.model
    vectors, likelihoods = encoder.encode(TEXTS), scores(lm)
    np.testing.assert_array_equal(encoder.encode(TEXTS), vectors)
    np.testing.assert_array_equal(scores(lm), likelihoods)
    other = encoder.with_options(adapter="generation")
    assert abs(other.encode(TEXTS) - vectors).max() > 1e-3
    for one, merged in (
        (vectors, encoder.merge().encode(TEXTS)),
        (likelihoods, scores(lm.merge())),
    ):
        np.testing.assert_allclose(merged, one, rtol=1e-3, atol=1e-4)


def test_rows_of_layers_are_those_of_the_encoders_adapter(folder: Path):
    _, encoder = pair(folder)
    for one in (encoder, encoder.with_options(adapter="generation")):
        merged = layer_rows(one.merge(), TEXTS, progress=False)
        np.testing.assert_allclose(layer_rows(one, TEXTS, progress=False), merged, atol=1e-4)


def test_training_one_leaves_the_other_as_it_was(folder: Path):
    lm, encoder = pair(folder)
    before = scores(lm)
    base = {n: w.clone() for n, w in lm.model.named_parameters() if "lora_" not in n}
    trained = [w for n, w in lm.model.named_parameters() if ".retrieval." in n]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    vectors = encoder.encode(TEXTS)
    embeddings = encoder(encoder.pad(encoder.tokenize(TEXTS)))
    (embeddings @ embeddings.T).pow(3).sum().backward()
    gradients = {n for n, w in lm.model.named_parameters() if w.grad is not None}
    assert gradients == {n for n, _ in lm.model.named_parameters() if ".retrieval." in n}
    optimizer.step()
    assert abs(encoder.encode(TEXTS) - vectors).max() > 1e-5
    np.testing.assert_array_equal(scores(lm), before)
    for name, weight in lm.model.named_parameters():
        if name in base:
            assert torch.equal(weight, base[name]), name


def test_gradients_of_both_are_those_of_each(folder: Path):
    """One backward pass of both: autograd looks at adapters only then."""
    lm, encoder = pair(folder)
    batch = lm.pad(lm.tokenize(TEXTS))

    def losses():
        yield encoder(encoder.pad(encoder.tokenize(TEXTS))).pow(3).sum()
        yield lm(batch).logits.logsumexp(-1).mean()

    sum(losses()).backward()
    together = {n: w.grad.clone() for n, w in lm.model.named_parameters() if "lora_" in n}
    lm.model.zero_grad()
    for loss in losses():
        loss.backward()
    for name, weight in lm.model.named_parameters():
        if "lora_" in name:
            assert weight.grad.abs().sum() > 0
            torch.testing.assert_close(together[name], weight.grad)


def test_both_come_back_over_one_model(folder: Path, tmp_path: Path):
    lm, encoder = pair(folder)
    vectors, likelihoods, digest = encoder.encode(TEXTS), scores(lm), encoder.fingerprint()
    lm.save_pretrained(tmp_path / "generator")
    encoder.save_pretrained(tmp_path / "retriever")
    again = CausalLM.from_pretrained(tmp_path / "generator", adapter="generation")
    shared = Encoder.over(again, tmp_path / "retriever", adapter="retrieval")
    assert shared.model is again.model
    assert shared.settings() == encoder.settings()
    np.testing.assert_array_equal(shared.encode(TEXTS), vectors)
    np.testing.assert_array_equal(scores(again), likelihoods)
    alone = BiEncoder.from_pretrained(tmp_path / "retriever").query_encoder
    assert not alone.below_head
    np.testing.assert_allclose(alone.encode(TEXTS), vectors, atol=1e-6)
    assert digest == shared.fingerprint() == alone.fingerprint()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft itself
def test_an_adapter_that_peft_trained_with_a_head_is_read_without(folder: Path, tmp_path: Path):
    """And the other way round: names of weights differ by the part below the head."""
    lm, encoder = pair(folder)
    lm.save_pretrained(tmp_path / "whole")
    read = Encoder.from_pretrained(tmp_path / "whole", pooling="last", append_eos=True)
    expected = encoder.with_options(adapter="generation").encode(TEXTS)
    np.testing.assert_allclose(read.encode(TEXTS), expected, atol=1e-6)
    encoder.save_pretrained(tmp_path / "retriever")
    base = transformers.AutoModel.from_pretrained(folder)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "retriever")
    other = Encoder(theirs, lm.tokenizer, pooling="last", append_eos=True)
    np.testing.assert_allclose(other.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)


def test_an_adapter_of_another_model_is_refused(folder: Path, tmp_path: Path):
    lm, encoder = pair(folder)
    encoder.save_pretrained(tmp_path / "retriever")
    with pytest.raises(ValueError, match="already has an adapter 'retrieval'"):
        Encoder.over(lm, tmp_path / "retriever", adapter="retrieval")
    plain = CausalLM.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"Encoder\.over: the other model has no adapter"):
        Encoder.over(plain, tmp_path / "retriever", adapter="retrieval")
    save("LlamaForCausalLM", tmp_path / "other")
    other = CausalLM.from_pretrained(tmp_path / "other")
    add_lora(other, r=2)
    with pytest.raises(ValueError, match=r"is an adapter of .*, and the model is .*other"):
        Encoder.over(other, tmp_path / "retriever", adapter="retrieval")
    with pytest.raises(ValueError, match="name one with `adapter`"):
        encoder.with_options(adapter=None).save_pretrained(tmp_path / "plain")


def test_none_of_the_adapters_is_the_model_as_it_was_loaded(folder: Path, tmp_path: Path):
    lm, encoder = pair(folder)
    plain = CausalLM.from_pretrained(folder), Encoder.from_pretrained(folder, pooling="last")
    bare = lm.with_options(adapter=()), encoder.with_options(adapter=(), append_eos=False)
    before = scores(lm)
    np.testing.assert_array_equal(scores(bare[0]), scores(plain[0]))
    np.testing.assert_array_equal(bare[1].encode(TEXTS), plain[1].encode(TEXTS))
    np.testing.assert_array_equal(scores(lm), before)
    for one, other in zip(bare, plain, strict=True):
        assert one.fingerprint() == other.fingerprint() == one.merge().fingerprint()
        name = tmp_path / type(one).__name__
        one.save_pretrained(name)
        assert type(one).from_pretrained(name).fingerprint() == other.fingerprint()


def test_updates_of_several_adapters_add_up(folder: Path, tmp_path: Path):
    lm, _ = pair(folder)
    both = lm.with_options(adapter=("retrieval", "generation"))
    before = scores(lm)
    np.testing.assert_allclose(scores(both.merge()), scores(both), rtol=2e-3)
    np.testing.assert_array_equal(scores(lm), before)
    assert abs(scores(both) - before).max() > 1e-2
    again, _ = pair(folder)
    assert both.fingerprint() == again.with_options(adapter=both.adapter).fingerprint()
    swapped = lm.with_options(adapter=("generation", "retrieval"))
    assert len({both.fingerprint(), swapped.fingerprint(), lm.fingerprint()}) == 3
    with pytest.raises(ValueError, match=r"\['retrieval', 'generation'\] are in use together"):
        both.save_pretrained(tmp_path / "both")


def test_adapters_that_a_model_lacks_are_refused(folder: Path):
    lm, _ = pair(folder)
    with pytest.raises(ValueError, match=r"no adapter 'other' in the model's \['generation', 're"):
        lm.with_options(adapter=("generation", "other"))
    with pytest.raises(ValueError, match=r"adapter is \(\), but the model has none; pass None"):
        CausalLM.from_pretrained(folder, adapter=())
