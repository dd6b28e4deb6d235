"""Preference by the attention of a decoder-only LM to each passage of a joined prompt."""

from __future__ import annotations

import contextlib
import inspect
import string
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ...data.prompts import format_columns
from ...integers import as_integer
from ...models import CausalLM
from ...models.length_batches import Tokens, by_length, check_batches, evaluating
from .preference_signal import check_model, check_questions, signal_fingerprint

SpanAttention = Literal["mass", "mean"]


class CausalAttention:
    """Scores passages by the attention of a decoder-only LM's last prompt token to each of them.

    The LM reads all passages and the question in one prompt. With ``w[l, h, t]`` the attention
    weight in layer l and head h of the last token, which predicts the first one of the answer, to
    token t, the score of a passage with tokens T is

    - "mass": ``sum over t in T of mean over l, h of w[l, h, t]``, its share of the attention;
    - "mean": the same divided by the number of tokens in T, as long passages get more attention.

    A token belongs to a passage if it has a character of it. Weights sum to one over the prompt, so
    scores of one question compete; and LMs attend more to the first and last parts of a prompt, so
    the order of the passages matters.

    An extension of AAR, whose paper leaves decoder-only source LMs open. Attention weights need the
    "eager" implementation of transformers. Only the last token runs with it, after the others have
    filled the cache; the model is put back afterwards.

    Args:
        model: the source LM.
        template: of a prompt, with the fields {passages} and {question}.
        separator: text between passages.
        max_characters: characters that a passage is cut to; None for all of them.
        kind: "mass" or "mean".
        batch_size: maximum number of questions at a time.
        batch_tokens: maximum number of tokens at a time, padding included.

    Raises:
        TypeError: a model that is no CausalLM.
        ValueError: another template, an unknown kind.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import CausalLM, minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> signal = CausalAttention(model, template="{passages}\\n\\nQ: {question} A:")
        >>> signal.scores(["who runs?"], [["Hens run.", "Cats sleep."]]).shape
        (1, 2)
    """

    name = "causal attention"
    is_extension = True
    needs_answers = False

    def __init__(
        self,
        model: CausalLM,
        *,
        template: str,
        separator: str = "\n\n",
        max_characters: int | None = 500,
        kind: SpanAttention = "mass",
        batch_size: int = 8,
        batch_tokens: int | None = None,
    ) -> None:
        check_model("CausalAttention", model, CausalLM)
        format_columns(template, passages=[], question=[])
        if kind not in get_args(SpanAttention):
            raise ValueError(f"CausalAttention: kind must be 'mass' or 'mean', got {kind!r}")
        if max_characters is not None:
            max_characters = as_integer(
                max_characters, "CausalAttention", "max_characters", at_least=1
            )
        check_batches("CausalAttention", batch_size, batch_tokens)
        self.model = model
        self.template = template
        self.separator = separator
        self.max_characters = max_characters
        self.kind: SpanAttention = kind
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens

    def scores(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]] | None = None,
        *,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Scores the passages of each question; see `PreferenceSignal.scores`.

        Raises:
            ValueError: also a prompt with more tokens than the model's max_length, a passage
                without any token, and a model that keeps no attention weights of the whole prompt.
        """
        check_questions("CausalAttention.scores", questions, passages)
        prompts = [self._prompt(*pair) for pair in zip(questions, passages, strict=True)]
        found = np.full((len(prompts), max(map(len, passages), default=0)), -np.inf, np.float32)
        batches = by_length(
            [prompt.text for prompt in prompts],
            self.model.tokenize,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            max_length=self.model.max_length,
            progress=self.name if progress is True else progress,
        )
        with evaluating(self.model), torch.inference_mode(), contextlib.closing(batches):
            for rows, tokens in batches:
                weights = last_token_attention(self.model, tokens)
                for row, one, own in zip(rows.tolist(), tokens, weights, strict=True):
                    offsets = np.array(one["offset_mapping"], np.int64).reshape(-1, 2)
                    shares = self._shares(
                        row, prompts[row], offsets, own[len(own) - len(offsets) :]
                    )
                    found[row, : len(shares)] = shares
        empty = np.flatnonzero(np.isneginf(found).all(1))
        if len(empty):  # batches leave out texts without tokens
            raise ValueError(
                f"CausalAttention.scores: the prompt of question {empty[0]} has no token"
            )
        return found

    def fingerprint(self) -> str:
        """Returns a digest of the LM, the template and the other options."""
        options = {
            "template": self.template,
            "separator": self.separator,
            "max_characters": self.max_characters,
            "kind": self.kind,
        }
        return signal_fingerprint(self, self.model, options)

    def _prompt(self, question: str, passages: Sequence[str]) -> _Prompt:
        """Fills the template, and notes where each passage is."""
        cut = [passage[: self.max_characters] for passage in passages]
        text = ""
        spans: list[tuple[int, int]] = []
        for literal, field, *_ in string.Formatter().parse(self.template):
            text += literal
            if field == "question":
                text += question
            elif field == "passages":
                begin = len(text)
                spans = []
                for passage in cut:
                    spans.append((begin, begin + len(passage)))
                    begin += len(passage) + len(self.separator)
                text += self.separator.join(cut)
        return _Prompt(text, spans)

    def _shares(
        self,
        row: int,
        prompt: _Prompt,
        offsets: NDArray[np.int64],
        weights: NDArray[np.float64],
    ) -> list[float]:
        """Sums or averages the weights of the tokens of each passage."""
        found = []
        for number, (begin, end) in enumerate(prompt.spans):
            own = weights[(offsets[:, 1] > begin) & (offsets[:, 0] < end)]
            if not len(own):
                raise ValueError(
                    f"CausalAttention.scores: passage {number} of question {row} has no token: "
                    f"{prompt.text[begin:end]!r:.60}"
                )
            found.append(float(own.sum() if self.kind == "mass" else own.mean()))
        return found


class _Prompt(NamedTuple):
    text: str
    spans: list[tuple[int, int]]  # first character of each passage, and the one after its last


def last_token_attention(model: CausalLM, tokens: Sequence[Tokens]) -> NDArray[np.float64]:
    """Computes the attention weights of the last token of texts, mean over layers and heads.

    Equals a forward pass with all attention weights, without ``[layers, n, heads, T, T]`` of them:
    the tokens before the last one fill the cache first.

    Args:
        model: decoder-only.
        tokens: of each text, at least one.

    Returns:
        float64 ``[n, T]``, texts on the right: texts with fewer than T tokens begin with zeros.

    Raises:
        ValueError: the model returns no attention weights, or not those of all tokens, as with a
            sliding window.
    """
    batch = model.pad(tokens, side="left")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    places = (mask.cumsum(1) - 1).clamp_min(0)
    inner = _without_adapters(model)
    # Models with absolute positions would count those of the padding.
    known = "position_ids" in inspect.signature(inner.forward).parameters
    positions: dict[str, Any] = {"position_ids": places} if known else {}
    first = {name: value[:, :-1] for name, value in positions.items()}
    last = {name: value[:, -1:] for name, value in positions.items()}
    cache: dict[str, Any] = {}
    if ids.shape[1] > 1:
        before = {"input_ids": ids[:, :-1], "attention_mask": mask[:, :-1], **first}
        cache["past_key_values"] = model(before, use_cache=True).past_key_values
    with _eager(inner):
        output = model(
            {"input_ids": ids[:, -1:], "attention_mask": mask, **last},
            **cache,
            use_cache=True,
            output_attentions=True,
        )
    attentions = output.attentions
    if not attentions or any(
        weights is None or weights.shape[-2:] != (1, ids.shape[1]) for weights in attentions
    ):
        raise ValueError(
            f"last_token_attention: expected attention weights of all {ids.shape[1]} tokens in "
            f"each layer, which {type(inner).__name__} does not return"
        )
    total = torch.stack([weights[:, :, 0].double().mean(1) for weights in attentions]).mean(0)
    found: NDArray[np.float64] = total.masked_fill(mask == 0, 0.0).cpu().numpy()
    return found


@contextlib.contextmanager
def _eager(model: Any) -> Iterator[None]:
    """Switches a model of transformers to attention that returns its weights, for a block."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _without_adapters(model: CausalLM) -> Any:
    whole: Any = model.model
    return whole.get_base_model() if hasattr(whole, "get_base_model") else whole
