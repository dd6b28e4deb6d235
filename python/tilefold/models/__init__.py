"""Text encoders: any transformers model as an Encoder, one or two of them as a BiEncoder.

They load and write folders of transformers, of sentence-transformers and of peft, and read DPR's.
"""

from __future__ import annotations

try:
    import torch as torch
    import tqdm as tqdm
    import transformers as transformers
except ImportError as error:
    raise ImportError(
        f"tilefold.models needs torch, transformers and tqdm ({error}): "
        'pip install "tilefold[demo]"'
    ) from error

from ..activations.pooling import POOLINGS, cls_pool, decoder_pool, last_pool, mean_pool
from .adapters import Lora, add_lora
from .bi_encoder import BiEncoder
from .encoder import Encoder
from .offline import find_model, minilm

__all__ = [
    "POOLINGS",
    "BiEncoder",
    "Encoder",
    "Lora",
    "add_lora",
    "cls_pool",
    "decoder_pool",
    "find_model",
    "last_pool",
    "mean_pool",
    "minilm",
]
