"""Generates tokens: options of decoding, and sampling that does not depend on the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_SPECIAL_TOKENS = (
    "bos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)


class Decoding(NamedTuple):
    """Options of decoding: how new tokens are chosen."""

    max_new_tokens: int
    greedy: bool
    temperature: float
    seed: int

    def check(self, op: str) -> None:
        """Raises ValueError, naming `op`, for options that make no sense."""
        for name in ("max_new_tokens", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
        if self.max_new_tokens < 1:
            raise ValueError(f"{op}: max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature > 0:
            raise ValueError(f"{op}: temperature must be above 0, got {self.temperature}")
        if self.greedy and self.temperature != 1.0:
            raise ValueError(f"{op}: temperature {self.temperature} needs greedy=False")


class SampledTokens:
    """Turns the choice of the best token into a sample of the softmax: the Gumbel-max trick.

    The argmax of ``logits / temperature + g`` with independent g from the standard Gumbel
    distribution is a sample of ``softmax(logits / temperature)``. Each prompt has a random
    generator of its own, so its sample does not depend on the batch that it is in.

    Args:
        rows: number of each prompt.
        temperature, seed: of `Decoding`.
    """

    def __init__(self, rows: Sequence[int], temperature: float, seed: int) -> None:
        self._temperature = temperature
        self._generators = []
        for row in rows:
            # The seed of a row must not be that of the next row under the next seed.
            mixed = (seed * 1_000_003 + row) % 2**63
            self._generators.append(torch.Generator().manual_seed(mixed))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        n = scores.shape[1]
        uniform = [torch.rand(n, generator=g, dtype=torch.float64) for g in self._generators]
        gumbel = -(-torch.stack(uniform).clamp_min(1e-300).log()).log()
        return scores.double() / self._temperature + gumbel.to(scores.device)


def generate_tokens(
    model: Any, inputs: Any, rows: Sequence[int], decoding: Decoding, tokenizer: Any
) -> Tensor:
    """Generates tokens for a batch, whatever the model's own defaults of decoding are.

    Args:
        model: of transformers, with `generate`.
        inputs: a padded batch, on the left for a causal model.
        rows: number of each prompt, for sampling.
        decoding: how tokens are chosen.
        tokenizer: has the padding token. Its end-of-sequence token ends a text as well as those of
            the model: continuations are trained to end with it.

    Returns:
        ``[n, tokens]`` ids: those of the prompt and the new ones of a causal model; of an
        encoder-decoder the decoder's, the start token first.
    """
    import transformers

    processors: Any = transformers.LogitsProcessorList()
    if not decoding.greedy:
        processors.append(SampledTokens(rows, decoding.temperature, decoding.seed))
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = whole.generation_config
    whole.generation_config = _plain(whole, decoding.max_new_tokens, tokenizer)
    try:
        ids: Tensor = model.generate(**inputs, **_cache(whole), logits_processor=processors)
    finally:
        whole.generation_config = before
    return ids


def _cache(model: Any) -> dict[str, Any]:
    """Returns a cache for a T5 whose decoder has more layers than its encoder, as an argument.

    The cache that transformers 5.23 makes has as many layers as the encoder, and generation fails
    (`findings/generation_of_uneven_t5_fails.sh`).
    """
    import transformers

    decoder_layers = getattr(model.config, "num_decoder_layers", None)
    if decoder_layers in (None, model.config.num_hidden_layers):
        return {}
    kind: Any = transformers.EncoderDecoderCache
    return {"past_key_values": kind(transformers.DynamicCache(), transformers.DynamicCache())}


def _plain(model: Any, max_new_tokens: int, tokenizer: Any) -> Any:
    """Returns a generation configuration with only the special tokens of the model's own.

    Models come with samplings, beams, penalties and minimum lengths, and `generate` takes each of
    these that a call does not override.
    """
    import transformers

    kept = {name: _special(model, name) for name in _SPECIAL_TOKENS}
    ends = _special(model, "eos_token_id")
    known = [] if ends is None else list(ends) if isinstance(ends, list | tuple) else [ends]
    if tokenizer.eos_token_id not in (None, *known):
        known.append(tokenizer.eos_token_id)
    kind: Any = transformers.GenerationConfig
    return kind(
        **kept,
        eos_token_id=known[0] if len(known) == 1 else known or None,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        num_beams=1,
    )


def _special(model: Any, name: str) -> Any:
    value = getattr(model.generation_config, name, None)
    return getattr(model.config, name, None) if value is None else value
