"""Measures the cross-attention of a decoder's first token, summed up while the decoder runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

AttentionKind = Literal["logits", "mass", "value norm"]

# Names of the cross-attention and of its projections of queries, keys and values: T5 and its
# relatives (mT5, UMT5, LongT5, Switch), and BART and its (mBART, Pegasus, Marian).
_FAMILIES = {"EncDecAttention": ("q", "k", "v"), "encoder_attn": ("q_proj", "k_proj", "v_proj")}


class FusedInputs(NamedTuple):
    """States of an encoder, joined over the inputs of each prompt, and the input of each token."""

    states: Tensor  # [n, tokens, hidden size]
    inputs: Tensor  # [n, tokens] int64: number of the input within its prompt, -1 at padding
    width: int  # largest number of inputs of a prompt

    @property
    def mask(self) -> Tensor:
        """1 at tokens and 0 at padding, int64 ``[n, tokens]``."""
        return (self.inputs >= 0).long()

    def means(self) -> tuple[Tensor, Tensor]:
        """Returns the mean state of each input, ``[n, inputs, hidden size]``, and its tokens.

        An input that a prompt lacks has zeros.
        """
        share = self._membership(self.states.dtype)
        counts = share.sum(2)
        return torch.bmm(share, self.states) / counts.clamp_min(1)[..., None], counts

    def sums(self, values: Tensor) -> Tensor:
        """Sums values of tokens ``[n, heads, tokens]`` over each input: ``[n, heads, inputs]``."""
        return torch.bmm(values, self._membership(values.dtype).transpose(1, 2))

    def _membership(self, dtype: torch.dtype) -> Tensor:
        numbers = torch.arange(self.width, device=self.inputs.device)
        return (self.inputs[:, None, :] == numbers[None, :, None]).to(dtype)


def cross_attention_scores(
    decoder: nn.Module, fused: FusedInputs, starts: Tensor, kind: AttentionKind
) -> Tensor:
    """Computes the attention of the decoder's first token to each input of each prompt.

    Memory does not grow with layers: each layer's part is added when the layer runs.

    Args:
        decoder: of T5 or BART, or a relative of theirs.
        fused: what it attends to.
        starts: ``[n, 1]`` first token.
        kind: see `FusionInDecoder.attention_scores`.

    Returns:
        ``[n, inputs]``, mean over layers and heads; -inf for inputs that a prompt lacks.

    Raises:
        ValueError: an unknown kind, or a decoder whose cross-attention is not known.
    """
    if kind not in get_args(AttentionKind):
        raise ValueError(
            f"attention_scores: kind must be one of {', '.join(get_args(AttentionKind))}, "
            f"got {kind!r}"
        )
    layers = _cross_attentions(decoder)
    means, counts = fused.means()
    total = means.new_zeros(counts.shape, dtype=torch.float32)

    def add(layer: nn.Module, query: Tensor) -> None:
        scores = _LayerScores(layer, query)
        found = scores.logits(means) if kind == "logits" else scores.shares(fused, kind)
        total.add_(found.float().mean(1))

    with _first_queries(layers, add):
        decoder(
            input_ids=starts,
            encoder_hidden_states=fused.states,
            encoder_attention_mask=fused.mask,
            use_cache=False,
        )
    return (total / len(layers)).masked_fill(counts == 0, -torch.inf)


class _LayerScores:
    """Products of the first token's queries with keys of one layer."""

    def __init__(self, layer: nn.Module, query: Tensor) -> None:
        self._names = _FAMILIES[_family(layer)]
        self._layer: Any = layer
        self._heads = int(getattr(layer, "n_heads", None) or layer.num_heads)  # type: ignore[arg-type]
        self._query = self._split("query", query) * float(getattr(layer, "scaling", 1.0))

    def logits(self, states: Tensor) -> Tensor:
        """Returns logits of states ``[n, places, hidden size]``: ``[n, heads, places]``."""
        return (self._query @ self._split("key", states).transpose(2, 3))[:, :, 0]

    def shares(self, fused: FusedInputs, kind: AttentionKind) -> Tensor:
        """Returns the softmax, or its product with norms of values, summed over each input."""
        logits = self.logits(fused.states).float()
        weights = logits.masked_fill(fused.inputs[:, None] < 0, -torch.inf).softmax(-1)
        if kind == "value norm":
            weights = weights * self._split("value", fused.states).float().norm(dim=-1)
        return fused.sums(weights)

    def _split(self, role: str, states: Tensor) -> Tensor:
        """Projects states, and splits them into heads: ``[n, heads, places, head size]``."""
        name = self._names[("query", "key", "value").index(role)]
        projected: Tensor = getattr(self._layer, name)(states)
        n, places, width = projected.shape
        return projected.view(n, places, self._heads, width // self._heads).transpose(1, 2)


@contextlib.contextmanager
def _first_queries(
    layers: list[nn.Module], add: Callable[[nn.Module, Tensor], None]
) -> Iterator[None]:
    """Calls `add` with each layer and the state that it attends from, while the block runs."""

    def hook(layer: nn.Module, args: Any, kwargs: Any) -> None:
        add(layer, args[0] if args else kwargs["hidden_states"])

    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _cross_attentions(decoder: nn.Module) -> list[nn.Module]:
    found = []
    for name, module in decoder.named_modules():
        if name.rpartition(".")[2] in _FAMILIES and all(
            hasattr(module, projection) for projection in _FAMILIES[name.rpartition(".")[2]]
        ):
            found.append(module)
    if not found:
        raise ValueError(
            f"attention_scores: expected a decoder with cross-attention as T5 or BART have it, got "
            f"{type(decoder).__name__}"
        )
    return found


def _family(layer: nn.Module) -> str:
    return next(
        name
        for name, projections in _FAMILIES.items()
        if all(hasattr(layer, projection) for projection in projections)
    )
