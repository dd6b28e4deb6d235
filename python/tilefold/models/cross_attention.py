"""Measures the cross-attention of a decoder's first token, summed up while the decoder runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

AttentionKind = Literal["logits", "mass", "value norm"]

# Names of the cross-attention and of its projections of queries, keys, values and outputs: T5 and
# its relatives (mT5, UMT5, LongT5, Switch), and BART and its (mBART, Pegasus, Marian).
_FAMILIES = {
    "EncDecAttention": ("q", "k", "v", "o"),
    "encoder_attn": ("q_proj", "k_proj", "v_proj", "out_proj"),
}


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

    def without_each(self, row: int, count: int) -> tuple[Tensor, Tensor]:
        """Returns the states of one prompt, and masks that leave out none or one of its inputs.

        Args:
            row: of the prompt.
            count: number of its inputs.

        Returns:
            States ``[1, tokens, hidden size]`` without padding, and masks ``[1 + count, tokens]``,
            1 at tokens: row 0 of all inputs, row k + 1 without input k.
        """
        own = self.inputs[row]
        own = own[own >= 0]
        left_out = torch.arange(-1, count, device=own.device)
        return self.states[row : row + 1, : len(own)], (own != left_out[:, None]).long()

    def _membership(self, dtype: torch.dtype) -> Tensor:
        numbers = torch.arange(self.width, device=self.inputs.device)
        return (self.inputs[:, None, :] == numbers[None, :, None]).to(dtype)


def cross_attention_scores(
    decoder: nn.Module, fused: FusedInputs, starts: Tensor, kind: AttentionKind
) -> Tensor:
    """Computes the attention of the decoder's first token to each input of each prompt.

    Memory does not grow with layers: each layer's part is added when the layer runs. There is one
    query, so no keys and values of tokens are formed: projections are moved from the tokens to the
    query and to the sum over tokens, ``q . (W_k x) = (W_k' q) . x`` and
    ``sum_t w_t W_v x_t = W_v sum_t w_t x_t``. (The norms of "value norm" need the values.)

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

    def attend(layer: nn.Module, query: Tensor) -> Tensor:
        attention = _OneQuery(layer, query)
        logits = attention.logits(fused.states)
        weights = logits.float().masked_fill(fused.inputs[:, None] < 0, -torch.inf).softmax(-1)
        if kind == "logits":
            found = attention.logits(means)
        elif kind == "mass":
            found = fused.sums(weights)
        else:
            found = fused.sums(weights * attention.value_norms(fused.states))
        total.add_(found.float().mean(1))
        return attention.output(weights.to(logits.dtype), fused.states)

    with _attending(layers, attend):
        # What the layers themselves attend to is replaced, so one token of it is enough.
        decoder(
            input_ids=starts,
            encoder_hidden_states=fused.states[:, :1],
            encoder_attention_mask=torch.ones_like(starts),
            use_cache=False,
        )
    return (total / len(layers)).masked_fill(counts == 0, -torch.inf)


class _OneQuery:
    """The cross-attention of a layer from a single token."""

    def __init__(self, layer: nn.Module, query: Tensor) -> None:
        self._names = _FAMILIES[_family(layer)]
        self._layer: Any = layer
        self._like = query
        self._heads = int(getattr(layer, "n_heads", None) or layer.num_heads)  # type: ignore[arg-type]
        own = self._projection("query")(query[:, 0]) * float(getattr(layer, "scaling", 1.0))
        own = own.unflatten(-1, (self._heads, 1, -1))  # [n, heads, 1, head size]
        weight, bias = self._by_head("key")
        self._direction = (own @ weight)[:, :, 0]  # [n, heads, hidden size]
        self._shift = None if bias is None else own @ bias[..., None]  # [n, heads, 1, 1]

    def logits(self, states: Tensor) -> Tensor:
        """Returns logits of states ``[n, places, hidden size]``: ``[n, heads, places]``."""
        found: Tensor = self._direction @ states.transpose(1, 2)
        return found if self._shift is None else found + self._shift[..., 0]

    def value_norms(self, states: Tensor) -> Tensor:
        """Returns the norms of the values of states: float32 ``[n, heads, places]``."""
        values: Tensor = self._projection("value")(states)
        split = values.reshape(*states.shape[:2], self._heads, -1).float()
        norms: Tensor = torch.linalg.vector_norm(split, dim=-1)
        return norms.transpose(1, 2)

    def output(self, weights: Tensor, states: Tensor) -> Tensor:
        """Returns what the layer adds for attention weights ``[n, heads, places]``.

        Args:
            weights: of a sum of one.
            states: ``[n, places, hidden size]``.

        Returns:
            ``[n, 1, hidden size]``.
        """
        weight, bias = self._by_head("value")
        values = (weights @ states)[:, :, None] @ weight.transpose(1, 2)
        joined = values[:, :, 0] if bias is None else values[:, :, 0] + bias
        added: Tensor = self._projection("output")(joined.flatten(1)[:, None])
        return added

    def _by_head(self, role: str) -> tuple[Tensor, Tensor | None]:
        """Returns weight ``[heads, head size, hidden size]`` and bias ``[heads, head size]``."""
        weight, bias = _linear_map(self._projection(role), self._like)
        split = weight.reshape(self._heads, -1, weight.shape[1])
        return split, None if bias is None else bias.reshape(self._heads, -1)

    def _projection(self, role: str) -> Any:
        name = self._names[("query", "key", "value", "output").index(role)]
        return getattr(self._layer, name)


def _linear_map(layer: Any, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns weight ``[outputs, inputs]`` and bias of a layer, also of one with adapters.

    Args:
        layer: linear in its inputs.
        like: has the precision and the device of its inputs.
    """
    if type(layer) is nn.Linear:
        return layer.weight, layer.bias
    # Adapters and quantized layers have no one weight: their map is that of the unit vectors.
    units = torch.eye(layer.in_features, dtype=like.dtype, device=like.device)
    bias = layer(torch.zeros_like(units[:1]))[0]
    return (layer(units) - bias).T, bias


@contextlib.contextmanager
def _attending(
    layers: list[nn.Module], attend: Callable[[nn.Module, Tensor], Tensor]
) -> Iterator[None]:
    """Replaces the output of layers by that of `attend`, called with the state they attend from."""

    def hook(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return (attend(layer, args[0] if args else kwargs["hidden_states"]), *output[1:])

    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in layers]
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
