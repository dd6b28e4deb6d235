"""Adds, loads and saves LoRA adapters through peft: several named ones over one frozen model.

Two towers, or a retriever and a generator, may share a model and have an adapter each. peft freezes
all adapters but the active one, and autograd then drops the gradients of those that ran before;
switching here leaves `requires_grad` as it is.

Several adapters may be in use at once: their updates add up. The empty tuple stands for none of
them, so that a model with adapters runs as it was loaded.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
from torch import Tensor, nn

from ..integers import as_integer
from .checkpoints.weights import find
from .lora_targets import check_mergeable, check_targets, default_targets

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ROOT = "base_model.model."  # in front of the names of all weights in a file

# Adapters in use: one, several, none of those that there are, or None for whichever are active.
AdapterNames = str | tuple[str, ...]


class Adaptable(Protocol):
    """The interface that `add_lora` needs of an Encoder or a language model."""

    model: nn.Module
    adapter: AdapterNames | None


@dataclass(frozen=True)
class Lora:
    """Holds the size of an adapter and where it is put.

    Args:
        r: rank of the update of each weight.
        alpha: the update is scaled by alpha / r.
        dropout: probability of dropping an input of the adapter, in training.
        target_modules: names of the layers, or "all-linear"; None for peft's choice for the
            architecture, or else the projections of queries and values.

    Source: Hu et al., LoRA, ICLR 2022.
    """

    r: int = 8
    alpha: float = 16
    dropout: float = 0.0
    target_modules: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        as_integer(self.r, "Lora", "r", at_least=1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Lora: dropout must be at least 0 and below 1, got {self.dropout}")


def add_lora(
    model: Adaptable,
    r: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    target_modules: str | Sequence[str] | None = None,
    *,
    name: str = "default",
) -> None:
    """Freezes a model and adds a LoRA adapter to it, which starts as no change at all.

    Encoders and language models over one model of transformers may each have an adapter of another
    name, and switch to it when they run. But peft changes layers in place: one that had this model
    before its first adapter, and has none itself, runs through whichever is active. The projection
    of an encoder is trained as before.

    Args:
        model: an Encoder, MaskedLM, CausalLM or EncoderDecoderLM; its `adapter` becomes `name`.
        r, alpha, dropout, target_modules: of `Lora`.
        name: of the adapter.

    Raises:
        ImportError: peft is not installed.
        ValueError: the model has an adapter or a layer of that name; it has no such layers, or no
            projections of the usual names; a target has the weights of another layer, such as the
            word embeddings, so that merging would change both.
        MemoryError: the adapter does not fit in memory.

    >>> from tilefold.models import minilm
    >>> encoder = minilm()
    >>> add_lora(encoder, r=2)
    >>> sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)
    18432
    """
    peft = _peft()
    lora = Lora(r, alpha, dropout, target_modules)
    targets = default_targets(model.model) if target_modules is None else target_modules
    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        # GPT-2 keeps its weights transposed; peft would find out as well, with a warning.
        fan_in_fan_out=any(type(part).__name__ == "Conv1D" for part in model.model.modules()),
    )
    model.model = _with_adapter(peft, model.model, config, name)
    model.adapter = name


def load_adapter(model: nn.Module, folder: str | Path, name: str) -> nn.Module:
    """Returns the model with an adapter from a folder or hub repository in peft's format.

    Args:
        model: the model that the adapter was trained on, with or without a head; one with adapters
            is changed in place.
        folder: holds adapter_config.json and adapter_model.safetensors.
        name: the adapter's name from here on.

    Raises:
        ValueError: weights of the adapter are missing, or do not fit the model.
    """
    peft = _peft()
    path = find(folder, WEIGHTS)
    if path is None:
        raise FileNotFoundError(f"{folder} has {CONFIG} but no {WEIGHTS}")
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.inference_mode = False
    # The model's folder may have been moved since: peft would look for its old name.
    config.base_model_name_or_path = base_name(model) or config.base_model_name_or_path
    adapted = _with_adapter(peft, model, config, name)
    try:
        state = _fitted(adapted, name, safetensors.torch.load_file(path))
        report = peft.set_peft_model_state_dict(adapted, state, adapter_name=name)
    except RuntimeError as error:  # torch raises it for shapes that differ
        raise ValueError(f"{folder}: the adapter does not fit the model: {error}") from error
    wrong = [key for key in report.missing_keys if belongs(key, name)] + report.unexpected_keys
    if wrong:
        raise ValueError(
            f"{folder}: the adapter does not fit the model: {len(wrong)} weights are missing or of "
            f"other layers, such as {wrong[0]}"
        )
    return adapted


def _fitted(model: Any, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames weights of an adapter of a model with a head for one without, or the reverse."""
    inner = f"{_ROOT}{getattr(model.get_base_model(), 'base_model_prefix', '')}."
    expected = set(_peft().get_peft_model_state_dict(model, adapter_name=name))
    for one, other in ((_ROOT, inner), (inner, _ROOT)):
        renamed = {key.replace(one, other, 1): weight for key, weight in state.items()}
        if set(renamed) == expected != set(state):
            return renamed
    return state


def names_of(adapter: AdapterNames | None) -> tuple[str, ...] | None:
    """Returns the names of the adapters in use as a tuple; None for whichever are active.

    >>> names_of("retrieval"), names_of(()), names_of(None)
    (('retrieval',), (), None)
    """
    return (adapter,) if isinstance(adapter, str) else adapter


def save_adapter(model: Any, adapter: AdapterNames, folder: Path, *, below_head: str = "") -> None:
    """Writes one adapter in peft's format; the model itself is only named.

    Args:
        model: of peft.
        adapter: name of the adapter.
        folder: exists.
        below_head: prefix that names of weights lose, so that the adapter fits the model without
            its head, as AutoModel loads it.

    Raises:
        ValueError: there are several adapters; the model has no name, because it was not loaded
            from anywhere.
    """
    peft = _peft()
    (name, *others) = names_of(adapter) or ()
    if others:
        raise ValueError(
            f"save_pretrained: the adapters {list(adapter)} are in use together; save each of them "
            f"alone (with_options(adapter=...)), or merge()"
        )
    config = copy.deepcopy(model.peft_config[name])
    config.inference_mode = True
    config.base_model_name_or_path = base_name(model)
    if not isinstance(config.target_modules, str | None):
        # peft writes "all-linear" as whole names where there are few layers.
        config.target_modules = {
            target.removeprefix(below_head) for target in config.target_modules
        }
    if not config.base_model_name_or_path:
        raise ValueError(
            "save_pretrained: an adapter is saved with the name of the model under it, and this "
            "one was not loaded from a folder or hub; save that model first, or merge()"
        )
    state = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    state = {
        key.replace(_ROOT + below_head, _ROOT, 1): tensor.detach().cpu().contiguous()
        for key, tensor in state.items()
    }
    safetensors.torch.save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def merged(model: Any, adapter: AdapterNames) -> nn.Module:
    """Returns a copy of the model under the adapters, with those in use added to its weights.

    Args:
        model: of peft.
        adapter: names of adapters; none of them gives the model as it was loaded.

    Raises:
        ValueError: an adapter is on a layer that has the weights of another one.
    """
    names = names_of(adapter) or ()
    for name in names:
        check_mergeable(model, name)
    own = copy.deepcopy(model)
    plain: nn.Module = own.merge_and_unload(adapter_names=list(names)) if names else own.unload()
    if hasattr(plain, "peft_config"):  # which peft before 0.20 leaves there
        del plain.peft_config
    return plain.requires_grad_(True)


def base_name(model: Any) -> str:
    """Returns the folder or hub name of a model, or of that under adapters; "" if it has none."""
    return str(getattr(_below(model), "name_or_path", ""))


@contextlib.contextmanager
def named(model: Any, name: str) -> Iterator[None]:
    """Gives the model under the adapters another name while the block runs."""
    below = _below(model)
    before = getattr(below, "name_or_path", "")
    below.name_or_path = name
    try:
        yield
    finally:
        below.name_or_path = before


@contextlib.contextmanager
def active(model: Any, adapter: AdapterNames | None) -> Iterator[None]:
    """Activates adapters while the block runs, and those before them afterwards.

    Raises:
        ValueError: activations are checkpointed in a way that would compute them again with
            whichever adapters are active by then.
    """
    names = names_of(adapter)
    if names is None:
        yield
        return
    before = _active_names(model)
    if names == before:
        if len(model.peft_config) > 1:
            _check_checkpointing(model)
        yield
        return
    _check_checkpointing(model)
    _switch(model, names)
    try:
        yield
    finally:
        _switch(model, before)


def checkpoint_activations(model: Any) -> None:
    """Makes blocks compute activations again in the backward pass, with the adapters they had."""

    def contexts() -> tuple[Any, Any]:
        names = _active_names(model) if hasattr(model, "get_base_model") else None
        return contextlib.nullcontext(), active(model, names)

    options = {"use_reentrant": False, "context_fn": contexts}
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    if hasattr(base, "activation_checkpointing_enable"):  # its name since transformers 5
        base.activation_checkpointing_enable(options)
    else:
        base.gradient_checkpointing_enable(options)


def belongs(key: str, name: str) -> bool:
    """Returns whether a parameter belongs to that adapter: `....lora_A.<name>.weight`.

    >>> belongs("layers.0.q_proj.lora_A.retrieval.weight", "retrieval")
    True
    """
    parts = key.split(".")
    return any(a.startswith("lora_") and b == name for a, b in itertools.pairwise(parts))


def _below(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _active_names(model: Any) -> tuple[str, ...]:
    return tuple(model.base_model.active_adapters)


def _switch(model: Any, names: tuple[str, ...]) -> None:
    trained = [(weight, weight.requires_grad) for weight in model.parameters()]
    # Of peft, the wrapper takes one name, and the model in it any number of them.
    if len(names) == 1:
        model.set_adapter(names[0])
    else:
        model.base_model.set_adapter(list(names))
    for weight, required in trained:
        weight.requires_grad_(required)


def _check_checkpointing(model: Any) -> None:
    for part in model.modules():
        function = getattr(part, "_gradient_checkpointing_func", None)
        if getattr(part, "gradient_checkpointing", False) and function is not None:
            if "context_fn" not in getattr(function, "keywords", {}):
                raise ValueError(
                    "Encoder: with several adapters, checkpointed activations would be computed "
                    "again with the wrong one; call checkpoint_activations() of the encoder instead"
                )
            return


def _with_adapter(peft: Any, model: Any, config: Any, name: str) -> nn.Module:
    if not isinstance(name, str):
        raise TypeError(f"add_lora: name must be a string, got {type(name).__name__}")
    if name in getattr(model, "peft_config", {}):
        raise ValueError(f"add_lora: the model already has an adapter {name!r}; choose a new name")
    # peft takes the name out of those of weights wherever it stands, as in `self.query`.
    layers = [layer for layer, _ in model.named_modules() if f".{name}" in f".{layer}"]
    if layers:
        raise ValueError(
            f"add_lora: {name!r} cannot name an adapter, as a part of the layer {layers[0]!r} "
            "begins with it; choose another name"
        )
    if not name.isidentifier() or name in "lora_":
        raise ValueError(
            f"add_lora: {name!r} cannot name an adapter: expected letters, digits and underscores, "
            "no digit first, and no part of 'lora_'"
        )
    check_targets(model, config.target_modules)
    with warnings.catch_warnings(), _memory_errors(config.r):
        # of peft, about the interface of transformers
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        if not hasattr(model, "peft_config"):
            adapted: nn.Module = peft.get_peft_model(model, config, adapter_name=name)
            return adapted.train(model.training)
        trained = {key for key, weight in model.named_parameters() if weight.requires_grad}
        model.add_adapter(name, config)  # which freezes the new one: it is not in use yet
    model.train(model.training)
    for key, weight in model.named_parameters():
        weight.requires_grad_(key in trained or belongs(key, name))
    return model  # type: ignore[no-any-return]


@contextlib.contextmanager
def _memory_errors(rank: int) -> Iterator[None]:
    """Raises MemoryError in place of torch's error for an adapter that memory does not hold."""
    try:
        yield
    except (RuntimeError, TypeError) as error:  # TypeError: no 64-bit integer
        said = str(error).lower()
        if not any(text in said for text in ("allocate", "out of memory", "overflow")):
            raise
        raise MemoryError(f"add_lora: an adapter of rank {rank} does not fit in memory") from error


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError(f'LoRA needs peft ({error}): pip install "tilefold[train]"') from error
    return peft
