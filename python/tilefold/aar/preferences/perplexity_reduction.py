"""Preference by the fall of perplexity against closed book, optionally in grades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.prompts import format_columns
from ...integers import as_integer
from ...models import CausalLM, EncoderDecoderLM
from .likelihood_preference import AnswerLikelihood, check_fixed


class GradedPerplexityReduction(AnswerLikelihood):
    """Scores a passage by how much it lowers the perplexity of the gold answer.

    With the perplexity ``PPL = exp(-mean over tokens of log p)``, the score is the relative
    reduction against closed book,

        ``r = 1 - PPL(a | d, q) / PPL(a | q)``

    which is below 1, and negative for a passage that makes the answer less likely. With `grades` g
    it becomes a grade of relevance ``max(0, floor(g r))``, one of 0 ... g - 1, as estimates of a
    perplexity are noisy and small differences say little.

    After the graded utility of Sandhu et al., "Aligning Dense Retrievers with LLM Utility via
    Distillation" (arXiv:2604.22722), which derives utilities from the reduction of perplexity. Only
    the abstract was available when this was written: relative reduction and grades are our reading.

    An extension of AAR.

    Args:
        model, template, max_characters, overlong, answer_template, append_eos, batch_size,
            batch_tokens: of `AnswerLikelihood`. Of several gold answers the likeliest counts, with
            a passage and without.
        closed_book_template: of the prompt without a passage, with the field {question}.
        grades: number of grades; None for the reduction itself.

    Raises:
        TypeError, ValueError: as of `AnswerLikelihood`; fewer than 2 grades.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import CausalLM, minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> signal = GradedPerplexityReduction(
        ...     model, template="{passage} Q: {question}", closed_book_template="Q: {question}"
        ... )
        >>> bool(signal.scores(["who runs?"], [["Hens run."]], [["hens"]]) < 1)
        True
    """

    name = "graded perplexity reduction"

    def __init__(
        self,
        model: CausalLM | EncoderDecoderLM,
        *,
        template: str,
        closed_book_template: str,
        grades: int | None = None,
        **options: Any,
    ) -> None:
        check_fixed(self, options)
        format_columns(closed_book_template, question=[])
        if grades is not None:
            grades = as_integer(grades, "GradedPerplexityReduction", "grades", at_least=2)
        super().__init__(model, template=template, length_normalized=True, **options)
        self.closed_book_template = closed_book_template
        self.grades = grades

    def scores(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]] | None = None,
        *,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Computes reductions or grades; see `PreferenceSignal.scores`."""
        opened = super().scores(questions, passages, answers, progress=progress)
        assert answers is not None
        closed = self._gold.after(
            format_columns(self.closed_book_template, question=list(questions)),
            self._gold.written(answers),
            progress=f"{self.name}, closed book" if progress is True else progress,
        )
        # PPL(a | d, q) / PPL(a | q) is the exponential of the difference of mean log-likelihoods.
        with np.errstate(over="ignore"):
            reduction = -np.expm1(closed[:, None] - opened)
        if self.grades is not None:
            grades = np.floor(self.grades * reduction).clip(0, self.grades - 1)
            reduction = np.where(np.isneginf(opened), -np.inf, grades)
        return reduction.astype(np.float32)

    def _options(self) -> dict[str, Any]:
        own = {"closed_book_template": self.closed_book_template, "grades": self.grades}
        return {**super()._options(), **own}
