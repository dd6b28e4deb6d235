"""Preferences from the likelihood of gold answers, for any kind of LM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models import CausalLM, EncoderDecoderLM
from .gold_likelihood import Gold, GoldLikelihood
from .passage_prompts import Overlong, PassagePrompts
from .preference_signal import (
    check_answers,
    check_model,
    check_questions,
    padded_rows,
    signal_fingerprint,
)


class AnswerLikelihood:
    """Scores a passage by how likely the LM finds the gold answer after reading it.

    The score is ``log p(a | d, q)``, the sum over the tokens of the answer. REPLUG trains a
    retriever towards the softmax of ``p(a | d, q) / beta`` over passages (Shi et al.,
    arXiv:2301.12652, eq. 4). For several gold answers see `gold`.

    An extension of AAR, which scores with `FusedAttention`.

    Args:
        model: the source LM: decoder-only or encoder-decoder. A `FusionInDecoder` reads each
            passage by itself here.
        template: of a prompt, with the fields {passage} and {question}.
        max_characters: characters that a passage is cut to; None for all of them.
        overlong: what happens to inputs with more tokens than the model's max_length: "error", or
            "cut passage" to cut the end of the passage until the input fits.
        answer_template: of an answer, with the field {answer}. A decoder-only LM usually needs
            ``" {answer}"`` after a prompt that ends without a space.
        gold: how several gold answers combine: "max" takes the likeliest one, as an LM has to give
            one of the aliases; "logsumexp" adds their probabilities.
        length_normalized: use the mean over tokens in place of the sum; not with "logsumexp".
        append_eos: whether the end-of-sequence token counts as the last one of an answer.
        batch_size: maximum number of prompts at a time; of a CausalLM, of pairs of a prompt and an
            answer.
        batch_tokens: maximum number of tokens at a time.

    Raises:
        TypeError: another kind of model.
        ValueError: an option as described.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import CausalLM, minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> signal = AnswerLikelihood(
        ...     model, template="{passage} Q: {question} A:", answer_template=" {answer}"
        ... )
        >>> signal.scores(["who runs?"], [["Hens run.", "Cats sleep."]], [["hens"]]).shape
        (1, 2)
    """

    name = "answer likelihood"
    is_extension = True
    needs_answers = True

    def __init__(
        self,
        model: CausalLM | EncoderDecoderLM,
        *,
        template: str,
        max_characters: int | None = 500,
        overlong: Overlong = "error",
        answer_template: str = "{answer}",
        gold: Gold = "max",
        length_normalized: bool = False,
        append_eos: bool = False,
        batch_size: int = 32,
        batch_tokens: int | None = None,
    ) -> None:
        op = type(self).__name__
        check_model(op, model, CausalLM, EncoderDecoderLM)
        self.model = model
        self._prompts = PassagePrompts(op, template, max_characters, overlong)
        self._gold = GoldLikelihood(
            op,
            model,
            answer_template=answer_template,
            gold=gold,
            length_normalized=length_normalized,
            append_eos=append_eos,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
        )

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
            ValueError: also an answer without any token, and an input with more tokens than the
                model's max_length, unless overlong is "cut passage".
        """
        op = f"{type(self).__name__}.scores"
        check_questions(op, questions, passages)
        golds = self._gold.written(check_answers(op, answers, len(questions)))
        texts = self._prompts.texts(
            self.model, questions, passages, reserved=self._gold.reserved(golds)
        )
        found = self._gold.after(
            [text for own in texts for text in own],
            [gold for own, gold in zip(texts, golds, strict=True) for _ in own],
            progress=self.name if progress is True else progress,
        )
        return padded_rows(found, list(map(len, texts)))

    def fingerprint(self) -> str:
        """Returns a digest of the LM, the templates and the other options."""
        return signal_fingerprint(self, self.model, self._options())

    def _options(self) -> dict[str, Any]:
        return {**self._prompts.options(), **self._gold.options()}


class PerplexityDistillation(AnswerLikelihood):
    """Scores passages by a distribution: a softmax of the answer's mean log-likelihoods.

    With ``l_k`` the mean over the answer's tokens of ``log p(a | d_k, q)``, the target distribution
    is ``p_k = softmax_k(l_k / temperature)``, and the scores are ``log p_k``: `PreferenceObjective`
    with signal_temperature 1 distils exactly p. This is PDist of Atlas (Izacard et al.,
    arXiv:2208.03299, section 2.2), with the length normalization of its code; the order of passages
    is that of `AnswerLikelihood` with length_normalized.

    An extension of AAR.

    Args:
        model, template, max_characters, overlong, answer_template, append_eos, batch_size,
            batch_tokens: of `AnswerLikelihood`. Of several gold answers the likeliest counts.
        temperature: log-likelihoods are divided by it; Atlas's default is 0.01, which makes the
            distribution almost one passage.

    Raises:
        TypeError, ValueError: as of `AnswerLikelihood`; a temperature that is not positive.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import CausalLM, minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> signal = PerplexityDistillation(model, template="{passage} {question}")
        >>> found = signal.scores(["who runs?"], [["Hens run.", "Cats sleep."]], [["hens"]])
        >>> np.exp(found).sum().round(3)
        np.float32(1.0)
    """

    name = "perplexity distillation"

    def __init__(
        self,
        model: CausalLM | EncoderDecoderLM,
        *,
        template: str,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        check_fixed(self, options)
        if not 0 < temperature < np.inf:
            raise ValueError(
                f"PerplexityDistillation: temperature must be positive, got {temperature}"
            )
        super().__init__(model, template=template, length_normalized=True, **options)
        self.temperature = float(temperature)

    def scores(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]] | None = None,
        *,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Computes the logarithm of the target distribution; see `PreferenceSignal.scores`."""
        found = super().scores(questions, passages, answers, progress=progress)
        scaled = found.astype(np.float64) / self.temperature
        if not scaled.size:
            return found
        total = np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        return (scaled - total).astype(np.float32)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "temperature": self.temperature}


def check_fixed(signal: AnswerLikelihood, options: dict[str, Any]) -> None:
    """Raises TypeError for options of `AnswerLikelihood` that a perplexity determines."""
    for name in ("gold", "length_normalized"):
        if name in options:
            raise TypeError(
                f"{type(signal).__name__}: {name} cannot be chosen; a perplexity is normalized by "
                "length, and of several gold answers the likeliest counts"
            )
