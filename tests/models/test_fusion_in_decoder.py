"""Fusion in decoder and its cross-attention scores, against loops over texts and stored scores."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

import tiny_language_models
from tilefold.models import EncoderDecoderLM, FusionInDecoder, add_lora

PROMPTS = [
    ["the red hen runs", "a blue fox sleeps over the barn", "the barn"],
    ["a hen"],
    ["the fox runs and the hen runs", "red fox"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_language_models.save("T5ForConditionalGeneration", tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def model(folder) -> FusionInDecoder:
    return FusionInDecoder.from_pretrained(folder)


def stored_scores(model: FusionInDecoder, prompt: list[str]) -> dict[str, np.ndarray]:
    """Every cross-attention score of the first decoder token, kept and then averaged.

    As AAR's code has it: texts padded to one length, states concatenated with their padding, logits
    of all layers and heads stored, those of padding set to 0 (Yu et al., ACL 2023).
    """
    batch = model.tokenizer(prompt, padding=True, return_tensors="pt")
    mask = batch["attention_mask"]  # [N, L]
    kept, queries = [], []
    layers = [block.layer[1].EncDecAttention for block in model.model.decoder.block]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: queries.append(args[0]))
        for layer in layers
    ]
    with torch.no_grad():
        states = model.model.encoder(**batch).last_hidden_state
        joined = states.reshape(1, -1, states.shape[-1])
        start = torch.full((1, 1), model.model.config.decoder_start_token_id)
        model.model.decoder(
            input_ids=start,
            encoder_hidden_states=joined,
            encoder_attention_mask=mask.reshape(1, -1),
            use_cache=False,
        )
        for hook in hooks:
            hook.remove()
        shares, norms = [], []
        for layer, query in zip(layers, queries, strict=True):
            q = layer.q(query).view(layer.n_heads, -1)
            k = layer.k(joined)[0].view(-1, layer.n_heads, q.shape[1])
            v = layer.v(joined)[0].view(-1, layer.n_heads, q.shape[1])
            logits = torch.einsum("hd,thd->ht", q.double(), k.double())
            kept.append(logits.view(layer.n_heads, *mask.shape))
            hidden = logits.masked_fill(mask.reshape(1, -1) == 0, -torch.inf).softmax(-1)
            shares.append(hidden.view(layer.n_heads, *mask.shape))
            norms.append((hidden * v.double().norm(dim=-1).T).view(layer.n_heads, *mask.shape))
    scores = torch.stack(kept)  # [layers, heads, N, L]
    scores = scores.masked_fill(mask[None, None] == 0, 0).sum((0, 1, 3))
    n = len(layers) * layers[0].n_heads
    return {
        "logits": (scores / (mask.sum(1) * n)).numpy(),
        "mass": torch.stack(shares).sum((0, 1, 3)).numpy() / n,
        "value norm": torch.stack(norms).sum((0, 1, 3)).numpy() / n,
    }


@pytest.mark.parametrize("kind", ["logits", "mass", "value norm"])
def test_attention_scores_are_those_of_stored_scores(model, kind):
    found = model.attention_scores(PROMPTS, kind=kind, batch_size=2)
    assert found.shape == (3, 3)
    for row, prompt in enumerate(PROMPTS):
        expected = stored_scores(model, prompt)[kind]
        np.testing.assert_allclose(found[row, : len(prompt)], expected, rtol=2e-5, atol=2e-5)
        assert np.isneginf(found[row, len(prompt) :]).all()
    if kind == "mass":
        np.testing.assert_allclose(found[0].sum(), 1, rtol=1e-5)


def test_batches_change_no_attention_score(model):
    alone = np.full((3, 3), -np.inf, np.float32)
    for row, prompt in enumerate(PROMPTS):
        alone[row, : len(prompt)] = model.attention_scores([prompt])[0]
    together = model.attention_scores(PROMPTS, batch_tokens=1000)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["logits", "mass", "value norm"])
def test_bart_has_attention_scores_too(kind):
    """Its projections have biases, and it scales queries."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "vocab_size": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.BartConfig(
        **sizes, **heads, **special, encoder_ffn_dim=16, decoder_start_token_id=2
    )
    config._attn_implementation = "eager"
    whole = transformers.BartForConditionalGeneration(config).eval()
    for name, weight in whole.named_parameters():
        if "encoder_attn" in name:
            weight.data.normal_()
    words = {word: n + 4 for n, word in enumerate(tiny_language_models.WORDS)}
    fast = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[EOS]": 3, **words}, "[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", eos_token="[EOS]"
    )
    model = FusionInDecoder(whole, wrapped)
    prompt = ["the red hen", "a fox runs"]
    found = model.attention_scores([prompt], kind=kind)[0]
    states = [whole.model.encoder(**wrapped([text], return_tensors="pt")) for text in prompt]
    joined = torch.cat([one.last_hidden_state for one in states], 1)
    output = whole.model.decoder(
        input_ids=torch.tensor([[2]]), encoder_hidden_states=joined, output_attentions=True
    )
    weights = torch.stack(output.cross_attentions)[:, 0, :, 0]  # [layers, heads, tokens]
    lengths = [one.last_hidden_state.shape[1] for one in states]
    if kind == "value norm":
        layers = [layer.encoder_attn for layer in whole.model.decoder.layers]
        values = [layer.v_proj(joined)[0].view(-1, 2, 8).norm(dim=-1).T for layer in layers]
        weights = weights * torch.stack(values)
    if kind == "logits":
        weights = bart_logits(whole, joined)
    parts = weights.double().mean((0, 1)).split(lengths)
    expected = [(part.mean() if kind == "logits" else part.sum()).item() for part in parts]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def bart_logits(whole, joined):
    """Logits ``[layers, heads, tokens]``, of the states that enter each layer."""
    queries, layers = [], [layer.encoder_attn for layer in whole.model.decoder.layers]
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: queries.append((args or [kwargs["hidden_states"]])[0]),
            with_kwargs=True,
        )
        for layer in layers
    ]
    whole.model.decoder(input_ids=torch.tensor([[2]]), encoder_hidden_states=joined)
    for hook in hooks:
        hook.remove()
    found = []
    for layer, query in zip(layers, queries, strict=True):
        q = layer.q_proj(query)[0].view(2, 8) * 8**-0.5
        k = layer.k_proj(joined)[0].view(-1, 2, 8)
        found.append(torch.einsum("he,the->ht", q, k))
    return torch.stack(found).detach()


def test_attention_scores_of_an_adapter_are_those_of_merged_weights(folder):
    pytest.importorskip("peft")
    adapted = FusionInDecoder.from_pretrained(folder)
    add_lora(adapted, r=2, target_modules=["q", "k", "v", "o"])
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.1)
    found = adapted.attention_scores(PROMPTS)
    np.testing.assert_allclose(found, adapted.merge().attention_scores(PROMPTS), rtol=1e-4)
    plain = FusionInDecoder.from_pretrained(folder).attention_scores(PROMPTS)
    assert np.abs(found[0] - plain[0]).max() > 1e-3


def test_leaving_a_text_out_is_a_prompt_without_it(model):
    prompts = [PROMPTS[0], PROMPTS[2]]
    options = [["the hen", "a"], ["red"]]
    found = model.leave_one_out_log_likelihoods(prompts, options, append_eos=True, batch_size=2)
    for prompt, own, one in zip(prompts, options, found, strict=True):
        variants = [prompt, *(prompt[:k] + prompt[k + 1 :] for k in range(len(prompt)))]
        for row, variant in enumerate(variants):
            alone = model.log_likelihood([variant] * len(own), own, append_eos=True)
            np.testing.assert_allclose(one.sum[row], alone.sum, rtol=1e-5)
            np.testing.assert_allclose(one.mean[row], alone.mean, rtol=1e-5)
            assert one.tokens[row].tolist() == alone.tokens.tolist()
    assert model.leave_one_out_log_likelihoods([], []) == []


@pytest.mark.parametrize("prompts", [["the hen"], [["the hen"]]])
def test_nothing_is_left_out_of_a_single_text(model, prompts):
    with pytest.raises(ValueError, match="expected two texts or more of prompt 0, got one"):
        model.leave_one_out_log_likelihoods(prompts, [["a"]])


def test_a_prompt_of_one_text_is_that_of_an_encoder_decoder(model, folder):
    plain = EncoderDecoderLM.from_pretrained(folder)
    texts, answers = [prompt[0] for prompt in PROMPTS], ["the hen", "a", "blue fox"]
    ours = model.log_likelihood([[text] for text in texts], answers, append_eos=True)
    theirs = plain.log_likelihood(texts, answers, append_eos=True)
    np.testing.assert_allclose(ours.sum, theirs.sum, rtol=1e-5)
    assert model.generate(texts, max_new_tokens=5) == plain.generate(texts, max_new_tokens=5)


def test_answers_are_those_of_concatenated_states(model):
    """Against transformers alone: states of each text, concatenated, one prompt at a time."""
    from transformers.modeling_outputs import BaseModelOutput

    generated = model.generate(PROMPTS, max_new_tokens=6)
    likelihoods = model.log_likelihood(PROMPTS, ["the hen", "a", "blue fox"])
    for row, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            states = [
                model.model.encoder(**model.tokenizer([text], return_tensors="pt"))
                for text in prompt
            ]
            joined = torch.cat([one.last_hidden_state for one in states], 1)
            ids = model.model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=joined),
                attention_mask=torch.ones(joined.shape[:2], dtype=torch.long),
                max_new_tokens=6,
                do_sample=False,
            )
            answer = ["the hen", "a", "blue fox"][row]
            target = model.tokenizer(answer, add_special_tokens=False, return_tensors="pt")
            output = model.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=joined),
                labels=target["input_ids"],
            )
        text = model.tokenizer.decode(ids[0, 1:], skip_special_tokens=True)
        assert generated[row] == text
        mean = -output.loss.item()
        np.testing.assert_allclose(likelihoods.mean[row], mean, rtol=1e-5)


def test_options_are_ranked_as_pairs_are(model, folder):
    options = [["the hen", "a"], ["red", "blue", "fox runs"], ["barn"]]
    found = model.option_log_likelihoods(PROMPTS, options, batch_size=2)
    for prompt, own, one in zip(PROMPTS, options, found, strict=True):
        alone = model.log_likelihood([prompt] * len(own), own)
        np.testing.assert_allclose(one.sum, alone.sum, rtol=1e-5)
        np.testing.assert_allclose(one.mean, alone.mean, rtol=1e-5)
        assert one.tokens.tolist() == alone.tokens.tolist()
    assert model.option_log_likelihoods([], []) == []


def test_the_loss_is_the_mean_over_tokens_and_trains_the_encoder(model):
    answers = ["the hen", "a", "blue fox"]
    loss = model.loss(PROMPTS, answers, append_eos=True)
    found = model.log_likelihood(PROMPTS, answers, append_eos=True)
    np.testing.assert_allclose(loss.item(), -found.sum.sum() / found.tokens.sum(), rtol=1e-5)
    loss.backward()
    assert model.model.encoder.block[0].layer[0].SelfAttention.q.weight.grad.abs().sum() > 0
    model.zero_grad()


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        ("the hen", TypeError, "prompts is one string"),
        ([3], TypeError, "prompt 0 must be a list of strings, got int"),
        ([["a", 3]], TypeError, "texts of prompt 0 must be strings, got int at 1"),
        ([[]], ValueError, "prompt 0 has no texts"),
        ([["the hen " * 600]], ValueError, "more than max_length"),
    ],
)
def test_bad_prompts_are_named(model, prompts, error, message):
    with pytest.raises(error, match=message):
        model.attention_scores(prompts)
    with pytest.raises(error, match=message):
        model.generate(prompts, max_new_tokens=2)


def test_unknown_attention_is_refused(model):
    with pytest.raises(ValueError, match="kind must be one of logits, mass, value norm"):
        model.attention_scores(PROMPTS, kind="heads")


def test_hooks_are_removed(model, monkeypatch):
    layers = [m for name, m in model.model.named_modules() if name.endswith("EncDecAttention")]
    model.attention_scores(PROMPTS)
    monkeypatch.setattr(layers[-1], "forward", None)
    with pytest.raises(TypeError):
        model.attention_scores(PROMPTS)
    assert all(not layer._forward_pre_hooks and not layer._forward_hooks for layer in layers)
