"""Patches every head, feed-forward block and token of a text with those of another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...activations.patching import patch
from ...integers import as_integer
from ...models import Encoder
from ...models.length_batches import check_batches, check_texts, evaluating
from ..neurons.feedforward import NAMES, FeedForward, own_feed_forwards
from ..neurons.path_gradients import repeat_tokens
from ..neurons.recorded_pass import RecordedPass, Tokens
from ..neurons.skipped_blocks import returning, skipped_blocks
from .attention_outputs import ATTENTION_NAMES, AttentionOutput, attention_outputs
from .recorded_layers import RecordedLayers

_OP = "patching_sweep"
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PatchingSweep:
    """Scores of corrupted texts with one activation of the clean text each.

    Args:
        clean, corrupted: ``[pairs]`` scores without patches.
        heads: ``[pairs, layers, heads]`` with the output of one head.
        feed_forward: ``[pairs, layers]`` with the output of one feed-forward block.
        tokens: ``[pairs, layers, tokens]`` with the state of one token behind a block, NaN where a
            text has no such token; None where these were not asked for.
    """

    clean: Floats
    corrupted: Floats
    heads: Floats
    feed_forward: Floats
    tokens: Floats | None = None

    def recovered(self, patched: Floats) -> Floats:
        """Returns the share of the difference of clean and corrupted scores that patches recover.

        Args:
            patched: `heads`, `feed_forward` or `tokens`.

        Returns:
            The same shape: 0 where a patch changes nothing, 1 where it gives the clean score; NaN
            for pairs whose scores do not differ.
        """
        shape = -1, *[1] * (patched.ndim - 1)
        gap = (self.clean - self.corrupted).reshape(shape)
        gained = patched - self.corrupted.reshape(shape)
        share = np.full_like(patched, np.nan)
        np.divide(gained, gap, out=share, where=gap != 0)
        return share


def patching_sweep(
    encoder: Encoder,
    clean: Sequence[str],
    corrupted: Sequence[str],
    directions: Any,
    *,
    by_token: bool = False,
    batch_size: int = 16,
    rows_at_once: int = 64,
    names: Sequence[tuple[str, str]] = NAMES,
    attention: Sequence[str] = ATTENTION_NAMES,
) -> PatchingSweep:
    """Runs corrupted texts with each activation of the clean texts in turn, and scores them.

    Activation patching as in Meng et al. (2022, section 2) and, for retrievers, Chen, Merullo and
    Eickhoff, "Axiomatic Causal Interventions for Reverse Engineering Relevance Computation in
    Neural Retrieval Models" (2024). All patches of a layer are one batch, which begins at that
    layer: what is below does not change.

    Args:
        encoder: of the texts.
        clean, corrupted: pairs of texts with as many tokens, such as a passage with a query's word
            and the same with another word.
        directions: ``[pairs, dim]``: a text's score is the inner product of its embedding with the
            direction of its pair, such as the embedding of a query.
        by_token: also patch the state behind each block, token by token.
        batch_size: pairs in a batch.
        rows_at_once: maximum number of patched texts in a forward pass; the activations of 64 texts
            of 30 tokens stay in the cache.
        names: see `feed_forwards`.
        attention: names of the output layer of attention inside a block.

    Raises:
        TypeError: texts that are not strings.
        ValueError: no pairs, not as many of each, directions of another shape; a pair with
            different numbers of tokens; a model without such layers.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> query = encoder.encode(["who wrote Hamlet"], progress=False)
        >>> clean, corrupted = ["a play by Shakespeare"], ["a play by somebody"]
        >>> found = patching_sweep(encoder, clean, corrupted, query)
        >>> found.heads.shape, found.feed_forward.shape
        ((1, 6, 12), (1, 6))
    """
    towards = torch.as_tensor(np.asarray(directions), dtype=torch.float32)
    for name, texts in (("clean", clean), ("corrupted", corrupted)):
        check_texts(texts, _OP, name)
    check_batches(_OP, batch_size, None)
    rows_at_once = as_integer(rows_at_once, _OP, "rows_at_once", at_least=1)
    if not len(clean) or len(clean) != len(corrupted):
        raise ValueError(
            f"{_OP}: expected as many clean texts as corrupted ones, and one or more, got "
            f"{len(clean)} and {len(corrupted)}"
        )
    if towards.shape != (len(clean), encoder.dim):
        raise ValueError(
            f"{_OP}: directions must be [{len(clean)}, {encoder.dim}], got {list(towards.shape)}"
        )
    tokens = [encoder.tokenize(texts) for texts in (clean, corrupted)]
    lengths = [[len(one["input_ids"]) for one in own] for own in tokens]
    for row, (one, other) in enumerate(zip(*lengths, strict=True)):
        if one != other:
            raise ValueError(
                f"{_OP}: the texts of a pair must have as many tokens, got {one} and {other}: "
                f"{clean[row]!r:.40} and {corrupted[row]!r:.40}"
            )
    parts = own_feed_forwards(_OP, encoder, names)
    outputs = attention_outputs(encoder, parts, attention)
    longest = max(lengths[0])
    found = []
    with evaluating(encoder), torch.inference_mode():
        for begin in range(0, len(clean), batch_size):
            some = slice(begin, begin + batch_size)
            pairs = [encoder.pad(own[some]) for own in tokens]
            own = towards[some].to(encoder.device)
            batch = _Batch(encoder, parts, outputs, pairs[0], pairs[1], own, rows_at_once)
            found.append(batch.sweep(longest if by_token else 0))
    joined = (np.concatenate(column) for column in zip(*found, strict=True))
    clean_scores, corrupted_scores, heads, feed_forward, by_place = joined
    return PatchingSweep(
        clean_scores, corrupted_scores, heads, feed_forward, by_place if by_token else None
    )


class _Batch:
    """A batch of pairs: what was recorded of both texts, and their patched runs."""

    def __init__(
        self,
        encoder: Encoder,
        parts: Sequence[FeedForward],
        outputs: Sequence[AttentionOutput],
        clean: Tokens,
        corrupted: Tokens,
        directions: Tensor,
        rows_at_once: int,
    ) -> None:
        self._encoder, self._parts, self._outputs = encoder, parts, outputs
        self._corrupted, self._directions = corrupted, directions
        self._mask = corrupted["attention_mask"].bool()
        self._n = len(directions)
        self._together = max(1, rows_at_once // self._n)
        self._heads: dict[int, Tensor] = {}
        hooks = [
            output.module.register_forward_pre_hook(self._keep(layer))
            for layer, output in enumerate(outputs)
        ]
        try:
            recorded = RecordedPass(parts, clean, self._mask.shape, self._target)
        finally:
            for hook in hooks:
                hook.remove()
        self.clean = recorded.reached
        self._feed_forward = [recorded.outputs(part.output_name)[0] for part in parts]
        self._states = [x[0] if isinstance(x, tuple) else x for x in recorded.below]
        self._layers = [RecordedLayers() for _ in parts]
        with contextlib.ExitStack() as recording:
            for layers, block in zip(self._layers, parts[0].blocks, strict=True):
                recording.enter_context(layers.recording(block))
            plain = RecordedPass(parts, corrupted, self._mask.shape, self._target)
        self.corrupted, self._below = plain.reached, plain.below

    def sweep(self, longest: int) -> tuple[Floats, ...]:
        """Returns scores of both texts, and of all patches; by token up to a number of tokens."""
        heads, feed_forward, tokens = [], [], []
        for part, output in zip(self._parts, self._outputs, strict=True):
            layer = part.layer
            before = self._layers[layer].before(output.module, self._n)
            site = f"{output.name}:input"
            every = range(output.heads)
            heads.append(self._patched(part, before, every, site, self._with_heads(layer)))
            before = self._layers[layer].before(part.output, self._n)
            edit = self._with_feed_forward(layer)
            own = self._patched(part, before, [0], part.output_name, edit)
            feed_forward.append(own[:, 0])
            if longest:
                places = range(self._mask.shape[1])
                site = self._name_of(part)
                edit = self._with_state(layer)
                states = self._patched(part, {}, places, site, edit, inclusive=True)
                states = states.masked_fill(~self._mask, torch.nan)
                missing = longest - states.shape[1]
                tokens.append(torch.nn.functional.pad(states, (0, missing), value=torch.nan))
        none = torch.zeros(self._n, 0)
        columns = (
            self.clean,
            self.corrupted,
            torch.stack(heads, 1),
            torch.stack(feed_forward, 1),
            torch.stack(tokens, 1) if tokens else none,
        )
        return tuple(column.float().cpu().numpy() for column in columns)

    def _patched(
        self,
        part: FeedForward,
        before: Mapping[nn.Module, Tensor],
        choices: Sequence[int],
        site: str,
        edit: Callable[[Sequence[int]], Callable[[Tensor], Tensor]],
        *,
        inclusive: bool = False,
    ) -> Tensor:
        """Returns scores ``[n, choices]`` with one choice patched in each run.

        Neither blocks below nor layers of the block before the patch run again.
        """
        found = []
        for begin in range(0, len(choices), self._together):
            some = choices[begin : begin + self._together]
            k = len(some)
            with (
                skipped_blocks(part, self._below, self._n, k, inclusive=inclusive),
                returning(before, self._n, k),
                patch(self._encoder, {site: edit(some)}),
            ):
                rows = torch.arange(self._n).repeat(k)
                reached = self._target(repeat_tokens(self._corrupted, k), rows)
            found.append(reached.reshape(k, self._n).T)
        return torch.cat(found, 1)

    def _with_heads(self, layer: int) -> Callable[[Sequence[int]], Callable[[Tensor], Tensor]]:
        clean, heads = self._heads[layer], self._outputs[layer].heads

        def edit(some: Sequence[int]) -> Callable[[Tensor], Tensor]:
            def replace(x: Tensor) -> Tensor:
                width = clean.shape[-1] // heads
                edited = x.reshape(len(some), *clean.shape).clone()
                for row, head in enumerate(some):
                    columns = slice(head * width, (head + 1) * width)
                    edited[row, ..., columns] = clean[..., columns]
                return edited.reshape(x.shape)

            return replace

        return edit

    def _with_feed_forward(
        self, layer: int
    ) -> Callable[[Sequence[int]], Callable[[Tensor], Tensor]]:
        clean = self._feed_forward[layer]
        return lambda _: lambda x: clean.reshape(x.shape)

    def _with_state(self, layer: int) -> Callable[[Sequence[int]], Callable[[Tensor], Tensor]]:
        clean = self._states[layer]

        def edit(some: Sequence[int]) -> Callable[[Tensor], Tensor]:
            def replace(x: Tensor) -> Tensor:
                edited = x.reshape(len(some), *clean.shape).clone()
                for row, place in enumerate(some):
                    edited[row, :, place] = clean[:, place]
                return edited.reshape(x.shape)

            return replace

        return edit

    def _name_of(self, part: FeedForward) -> str:
        block = part.blocks[part.layer]
        names: list[str] = [
            name for name, module in self._encoder.named_modules() if module is block
        ]
        return names[0]

    def _target(self, tokens: Tokens, rows: Tensor) -> Tensor:
        embeddings: Tensor = self._encoder(tokens).float()
        return (embeddings * self._directions[rows]).sum(1)

    def _keep(self, layer: int) -> Callable[..., None]:
        def keep(_: Any, args: tuple[Tensor, ...]) -> None:
            x = args[0].detach()
            self._heads[layer] = x.reshape(*self._mask.shape, x.shape[-1]).clone()

        return keep
