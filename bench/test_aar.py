"""Preferences by attention against hooks that store every score while the LM writes its answer."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

WHY = "not installed: pip install tilefold[train]"
torch = pytest.importorskip("torch", reason=WHY, exc_type=ImportError)
pytest.importorskip("transformers", reason=WHY, exc_type=ImportError)

from tilefold.aar.preferences import FusedAttention
from tilefold.models import FusionInDecoder, minilm
from tilefold.testing import machine, peak_memory

WORDS = "which passages answer a question about rivers cities painters and prizes of an old country"
TEMPLATE = "{passage}Answer the following question.\n{question}"
PASSAGES = 10  # of a question, as in AAR
BATCH = 9  # questions at a time, as in AAR's script
# New tokens of an answer. AAR allows 64, and an answer of MS MARCO QA has about 15; a model with
# random weights never stops by itself.
NEW_TOKENS = 16
# Of Flan-T5-Small.
SHAPE = {
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "num_heads": 6,
    "feed_forward_proj": "gated-gelu",
    "vocab_size": 32128,
}
TINY = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 30522}


class Questions(NamedTuple):
    """Questions and their passages."""

    texts: list[str]
    passages: list[list[str]]


@pytest.fixture(scope="module")
def model(quick: bool) -> FusionInDecoder:
    """A T5 with random weights, and a tokenizer of fewer words than it has embeddings."""
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(**(TINY if quick else SHAPE), decoder_start_token_id=0)
    whole = transformers.T5ForConditionalGeneration(config).eval()
    return FusionInDecoder(whole, minilm().tokenizer, max_length=512)


@pytest.fixture(scope="module")
def questions(quick: bool) -> Questions:
    """Passages as long as those of MS MARCO: about 340 characters, and few above 500."""
    rng = np.random.default_rng(0)
    words = WORDS.split()

    def text(n: int) -> str:
        return " ".join(rng.choice(words, n))

    n = 3 if quick else 18
    lengths = rng.normal(56, 18, (n, PASSAGES)).clip(15, 90).astype(int)
    return Questions([text(6) for _ in range(n)], [[text(k) for k in own] for own in lengths])


def stored_scores(
    model: FusionInDecoder, questions: Questions, new_tokens: int = NEW_TOKENS
) -> NDArray[np.float64]:
    """FiDAtt by hooks: padded batches, all scores of all layers and tokens kept, then averaged.

    Keys are taken from the cache, so a hook costs no more than one product.
    """
    found = []
    for begin in range(0, len(questions.texts), BATCH):
        own = slice(begin, begin + BATCH)
        texts = [
            TEMPLATE.format(passage=passage[:500], question=question)
            for question, passages in zip(
                questions.texts[own], questions.passages[own], strict=True
            )
            for passage in passages
        ]
        found.append(_batch_of_stored_scores(model, texts, new_tokens))
    return np.concatenate(found)


def _batch_of_stored_scores(
    model: FusionInDecoder, texts: list[str], new_tokens: int
) -> NDArray[np.float64]:
    from transformers.modeling_outputs import BaseModelOutput

    whole: Any = model.model
    layers = [block.layer[1].EncDecAttention for block in whole.decoder.block]
    stored: dict[int, list[Any]] = {layer.layer_idx: [] for layer in layers}

    def store(layer: Any, args: Any, kwargs: Any, _: Any) -> None:
        keys = kwargs["past_key_values"].cross_attention_cache.layers[layer.layer_idx].keys
        queries = layer.q(args[0]).unflatten(-1, (layer.n_heads, -1)).transpose(1, 2)
        stored[layer.layer_idx].append(queries @ keys.transpose(2, 3))  # [n, heads, 1, N tokens]

    batch = model.tokenizer(texts, padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    n = len(texts) // PASSAGES
    hooks = [layer.register_forward_hook(store, with_kwargs=True) for layer in layers]
    with torch.inference_mode():
        states = whole.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        whole.generate(
            encoder_outputs=BaseModelOutput(states.reshape(n, -1, states.shape[-1])),
            attention_mask=mask.reshape(n, -1),
            max_new_tokens=new_tokens,
            do_sample=False,
        )
    for hook in hooks:
        hook.remove()
    first = torch.stack([steps[0][:, :, 0] for steps in stored.values()])  # [layers, n, heads, N T]
    of_passages = mask.reshape(n, PASSAGES, -1)
    scores = first.unflatten(-1, (PASSAGES, -1)).masked_fill(of_passages[:, None] == 0, 0)
    means = scores.double().mean((0, 2)).sum(-1) / of_passages.sum(-1)
    return means.numpy()


def alike(name: str, ours: Any, theirs: Any) -> int:
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=name)
    return 0


def test_preferences_by_attention(compare, quick, model, questions):
    signal = FusedAttention(model, template=TEMPLATE)
    n = len(questions.texts)
    case = f"FiDAtt, Flan-T5-Small's shape, {n} questions x {PASSAGES} passages"
    outcome = compare.run(
        case,
        {
            "tilefold": partial(signal.scores, questions.texts, questions.passages),
            "hooks": partial(stored_scores, model, questions),
        },
        {"hooks": 2.0},
        work={"questions_per_s": n},
        check=alike,
    )
    minutes = outcome.timings["tilefold"].median / n * 1000 / 60
    compare.table.add("the same for 1,000 questions", f"{minutes:.1f} min", None)
    ours, theirs = (outcome.memory[name].bytes / 2**20 for name in ("tilefold", "hooks"))
    compare.table.add(f"memory of FiDAtt, {n} questions", f"{ours:.0f} MiB", theirs / ours)


def test_memory_does_not_grow_with_the_answer(compare, benchmark, model, questions):
    """Ours runs one decoder step, whatever the length of an answer; hooks keep all steps."""
    few = Questions(questions.texts[:3], questions.passages[:3])
    signal = FusedAttention(model, template=TEMPLATE)
    peaks = {}
    for name, call in {
        "tilefold": partial(signal.scores, *few),
        "hooks, 1 token": partial(stored_scores, model, few, 1),
        "hooks, 64 tokens": partial(stored_scores, model, few, 64),
    }.items():
        call()
        with peak_memory() as peak:
            call()
        peaks[name] = peak.bytes / 2**20
    benchmark.pedantic(partial(signal.scores, *few), rounds=1)
    compare.extra_info.update(machine=machine(), peak_mb=peaks)
    shown = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in peaks.items())
    compare.table.add(
        "memory of FiDAtt, 3 questions, 64 tokens of answers",
        f"{peaks['tilefold']:.0f} MiB",
        peaks["hooks, 64 tokens"] / max(peaks["tilefold"], 1e-3),
        against="x hooks, 64 tokens",
        peers=shown,
    )
