"""Computes the fingerprint of a model: a digest of everything that its results depend on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from .adapters import AdapterNames, names_of

# Fields of a configuration that say where a model comes from or who saved it. The precision of
# weights is a part of their digest.
_NOT_OF_RESULTS = {
    "_name_or_path",
    "name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
_ADAPTER_WEIGHT = re.compile(r"(\.lora_\w+)\.(\w+)(?=\.|$)")


class Fingerprinted(Protocol):
    """An Encoder or a language model."""

    model: Any
    tokenizer: Any
    adapter: AdapterNames | None

    def state_dict(self) -> Any: ...

    def settings(self) -> dict[str, Any]: ...


def fingerprint(model: Fingerprinted) -> str:
    """Returns a digest of weights, configuration, tokenizer and settings of an encoder or LM.

    Equal in every process, and after `save_pretrained` and `from_pretrained`; another one where a
    weight, its precision, the adapter in use, the tokenizer, or a setting such as pooling, prefix
    or max_length differs. The name of the model and of the adapter do not matter. Reads every
    weight once (about 0.5 s for 1 GB).

    Args:
        model: an Encoder, MaskedLM, CausalLM or EncoderDecoderLM.

    Returns:
        32 hexadecimal digits.

    >>> from tilefold.models import minilm
    >>> encoder = minilm()
    >>> encoder.fingerprint() == minilm().fingerprint()
    True
    >>> encoder.fingerprint() == encoder.with_options(prefix="query: ").fingerprint()
    False
    """
    parts = [
        type(model).__name__,
        weights_digest(model),
        _configuration(model),
        tokenizer_digest(model.tokenizer),
        model.settings(),
        repr(getattr(model, "projection", None)),  # its activations have no weights
    ]
    return _short(json.dumps(parts, sort_keys=True, default=str).encode())


def weights_digest(model: Fingerprinted) -> str:
    """Returns a digest of the names, shapes, precisions and values of the weights that are used.

    Poolers are left out: they are not used, and are random where a checkpoint has none. So are
    adapters other than those in use.

    Args:
        model: as in `fingerprint`.
    """
    return digest_of_weights(_weights(model))


def digest_of_weights(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Returns a digest of names, shapes, precisions and values of weights, in the order of names.

    Args:
        weights: names and tensors, such as `state_dict().items()`.

    Example:
        >>> one, other = torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)
        >>> digest_of_weights({"a": one}.items()) == digest_of_weights({"a": other}.items())
        False
    """
    digest = hashlib.sha256()  # of hashlib the fastest where the processor has instructions for it
    for name, weight in sorted(weights, key=lambda pair: pair[0]):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\0".encode())
        # Bytes as they are: NumPy has no bfloat16. A scalar has no bytes to view without a shape.
        raw = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()[:32]


def tokenizer_digest(tokenizer: Any) -> str:
    """Returns a digest of a tokenizer's vocabulary, rules and special tokens.

    Args:
        tokenizer: of transformers. Its state of truncation and padding does not matter.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    if getattr(tokenizer, "is_fast", False):
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        rules = {key: rules[key] for key in rules if key not in ("truncation", "padding")}
    else:
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    return _short(json.dumps([special, rules], sort_keys=True).encode("utf-8", "surrogatepass"))


def _weights(model: Fingerprinted) -> Iterator[tuple[str, Tensor]]:
    weights = dict(_without_head(model))
    matches = {name: _ADAPTER_WEIGHT.search(name) for name in weights}
    names = names_of(model.adapter)
    own = {name[: m.start()] for name, m in matches.items() if m and m[2] in (names or ())}
    for name, weight in weights.items():
        adapter = matches[name]
        unused = "pooler" in name.split(".") or (
            adapter is not None and names is not None and adapter[2] not in names
        )
        if unused:
            continue
        layer, _, kind = name.partition(".base_layer.")
        if kind and names is not None and layer not in own:
            yield f"{layer}.{kind}", weight  # other adapters alone are on this layer
        elif adapter is None or names is None:
            yield name, weight
        else:  # several adapters of equal shape are distinguished by their order
            place = "" if len(names) == 1 else f".{names.index(adapter[2])}"
            yield _ADAPTER_WEIGHT.sub(rf"\1{place}", name), weight


def _without_head(model: Fingerprinted) -> Iterator[tuple[str, Tensor]]:
    """Yields weights by their names in a model without the head that an encoder does not use."""
    root = "model.base_model.model." if hasattr(model.model, "get_base_model") else "model."
    inner = root + getattr(model, "below_head", "")
    outer = "model." if model.adapter == () else root  # no adapter: as if there never was one
    for name, weight in model.state_dict().items():
        if name.startswith(inner):
            yield outer + name.removeprefix(inner), weight
        elif not name.startswith(root):  # a projection
            yield name, weight


def _configuration(model: Fingerprinted) -> dict[str, Any]:
    adapted = hasattr(model.model, "get_base_model")
    config = (model.model.get_base_model() if adapted else model.model).config.to_dict()
    known = {key: value for key, value in config.items() if key not in _NOT_OF_RESULTS}
    scales = []
    for name in names_of(model.adapter) or ():
        lora = model.model.peft_config[name]
        scales.append([lora.r, lora.lora_alpha, bool(lora.use_rslora)])
    if scales:
        known["adapter scale"] = scales[0] if len(scales) == 1 else scales
    return known


def _short(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:32]
