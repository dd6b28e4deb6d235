"""Models of transformers with their tokenizers: text encoders and language models.

`Encoder` and `BiEncoder` compute embeddings; `MaskedLM`, `CausalLM`, `EncoderDecoderLM` and
`FusionInDecoder` compute probabilities and text. All share loading that refuses missing weights,
batches by length and by tokens, LoRA adapters, and a fingerprint. They load and write folders of
transformers, of sentence-transformers and of peft, and read DPR's.
"""

from __future__ import annotations

try:
    import torch as torch
    import transformers as transformers
except ImportError as error:
    raise ImportError(
        f'tilefold.models needs torch and transformers ({error}): pip install "tilefold[train]"'
    ) from error

from ..activations.pooling import POOLINGS, cls_pool, decoder_pool, last_pool, mean_pool
from .adapters import Lora, add_lora
from .bi_encoder import BiEncoder
from .causal_lm import CausalLM
from .encoder import Encoder
from .encoder_decoder import EncoderDecoderLM
from .fingerprint import fingerprint
from .fusion_in_decoder import FusionInDecoder
from .log_likelihood import LogLikelihoods
from .masked_lm import MaskedLM
from .offline import find_model, minilm

__all__ = [
    "POOLINGS",
    "BiEncoder",
    "CausalLM",
    "Encoder",
    "EncoderDecoderLM",
    "FusionInDecoder",
    "LogLikelihoods",
    "Lora",
    "MaskedLM",
    "add_lora",
    "cls_pool",
    "decoder_pool",
    "find_model",
    "fingerprint",
    "last_pool",
    "mean_pool",
    "minilm",
]
