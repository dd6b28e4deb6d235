"""Chooses the layers of a model that get a LoRA adapter, and checks that they can have one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

# Names of the projections of queries and values, or of queries, keys and values together, in
# architectures that peft has no choice for; the first that a model has are taken.
_PROJECTIONS = (
    ("query", "value"),  # ALBERT, CamemBERT
    ("q_proj", "v_proj"),  # Jina v3, NomicBERT, EuroBERT, OLMo 2
    ("q_lin", "v_lin"),  # DistilBERT
    ("q", "v"),  # MPNet
    ("Wqkv",),  # ModernBERT
    ("qkv_proj",),  # Phi-3
    ("query_key_value",),
    ("c_attn",),
)

Targets = str | Sequence[str] | None


def default_targets(model: Any) -> str | Sequence[str]:
    """Returns the names of projections to adapt: peft's choice for the architecture, or the usual.

    peft is told its own choice, as it does not find it for Mixtral (0.21.2 with transformers 5).

    Args:
        model: of transformers, perhaps with adapters.

    Raises:
        ValueError: peft has no choice for the model, and none of the usual names is there.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    whole = _without_adapters(model)
    kind = getattr(whole.config, "model_type", None)
    if kind in KNOWN:
        chosen: str | Sequence[str] = KNOWN[kind]
        return chosen
    names = _dense_names(whole)
    for some in _PROJECTIONS:
        if set(some) <= names:
            return list(some)
    raise ValueError(
        f"add_lora: {type(whole).__name__} has no layers of the usual names of projections; choose "
        f"target_modules among {sorted(names)}"
    )


def check_targets(model: Any, targets: Targets) -> None:
    """Checks that there are such layers, and that none shares its weights with another.

    An adapter acts on one of two layers with the same weights, and merging it changes both: logits
    of a model whose head is tied to the word embeddings were seen to differ by up to 101.

    Args:
        model: of transformers, perhaps with adapters.
        targets: names of layers, a regular expression, "all-linear", or None for peft's choice.

    Raises:
        ValueError: no such layer; a layer that is tied to another one.
    """
    if targets is None:
        return
    whole = _without_adapters(model)
    chosen = list(_chosen(whole, targets))
    if not chosen:
        raise ValueError(
            f"add_lora: {type(whole).__name__} has no layers {targets}; choose target_modules "
            f"among {sorted(_dense_names(whole))}"
        )
    _check_untied(
        whole, [name for name, _ in chosen], "add_lora: {}; choose others as target_modules"
    )


def check_mergeable(model: Any, adapter: str) -> None:
    """Checks that no layer with that adapter shares its weights with another.

    Args:
        model: of peft.
        adapter: name.

    Raises:
        ValueError: a layer that is tied to another one.
    """
    whole = _without_adapters(model)
    adapted = [
        name
        for name, part in whole.named_modules()
        if any(adapter in getattr(part, kind, ()) for kind in ("lora_A", "lora_embedding_A"))
    ]
    _check_untied(
        whole, adapted, "merge: {}, and merging would change both; use the adapter as it is"
    )


def _check_untied(whole: nn.Module, names: Sequence[str], message: str) -> None:
    owners: dict[int, tuple[Tensor, list[str]]] = {}  # which keep weights, so that ids stay theirs
    for name, part in whole.named_modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, Tensor) and not name.endswith(".base_layer"):  # under an adapter
            owners.setdefault(id(weight), (weight, []))[1].append(name)
    for _, own in owners.values():
        tied = [name for name in own if name in names]
        if tied and len(own) > 1:
            other = next(name for name in own if name != tied[0])
            raise ValueError(message.format(f"the layer {tied[0]!r} is tied to {other!r}"))


def _chosen(whole: Any, targets: str | Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    head = whole.get_output_embeddings() if hasattr(whole, "get_output_embeddings") else None
    for name, part in whole.named_modules():
        if targets == "all-linear":  # of peft: all but the head
            fits = _is_dense(part) and part is not head
        elif isinstance(targets, str):
            fits = re.fullmatch(targets, name) is not None
        else:
            fits = any(f".{name}".endswith(f".{target}") for target in targets)
        if fits:
            yield name, part


def _dense_names(whole: nn.Module) -> set[str]:
    """Returns the last parts of the names of dense layers."""
    names = (name for name, part in whole.named_modules() if _is_dense(part))
    return {name.removesuffix(".base_layer").rpartition(".")[2] for name in names}


def _is_dense(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D"


def _without_adapters(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
