"""Preference by leaving a passage out: how much the fused answer becomes less likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models import FusionInDecoder
from .likelihood_preference import AnswerLikelihood
from .preference_signal import check_answers, check_model, check_questions, padded_rows


class LeaveOneOut(AnswerLikelihood):
    """Scores a passage by how much the fused answer's log-likelihood falls without it.

    With D all passages of a question, the score of d_k is

        ``log p(a | D, q) - log p(a | D without d_k, q)``

    LOOP of Atlas (Izacard et al., arXiv:2208.03299, section 2.2) takes the negative of the second
    term, which gives the same order and the same softmax. A passage whose content another one
    repeats scores low, unlike in `AnswerLikelihood`. Each passage is encoded once.

    An extension of AAR.

    Args:
        model: the source LM.
        template, max_characters, overlong, answer_template, append_eos: of `AnswerLikelihood`.
        gold: "max" or "logsumexp" over several gold answers, with all passages and without each.
        length_normalized: use means over the answer's tokens, as the code of Atlas does; not with
            "logsumexp".
        batch_size: maximum number of questions at a time.
        batch_tokens: maximum number of tokens at a time, over all passages of the questions.

    Raises:
        TypeError: a model that is no FusionInDecoder.
        ValueError: an option as described.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from tilefold.models import FusionInDecoder, minilm
        >>> sizes = {"d_model": 8, "num_layers": 1, "decoder_start_token_id": 0}
        >>> config = T5Config(vocab_size=30522, **sizes)
        >>> whole = T5ForConditionalGeneration(config)  # random weights
        >>> model = FusionInDecoder(whole, minilm().tokenizer)
        >>> signal = LeaveOneOut(model, template="{passage} Question: {question}")
        >>> signal.scores(["who runs?"], [["Hens run.", "Cats sleep."]], [["hens"]]).shape
        (1, 2)
    """

    name = "leave one out"

    def __init__(
        self,
        model: FusionInDecoder,
        *,
        template: str,
        length_normalized: bool = True,
        batch_size: int = 8,
        **options: Any,
    ) -> None:
        check_model("LeaveOneOut", model, FusionInDecoder)
        super().__init__(
            model,
            template=template,
            length_normalized=length_normalized,
            batch_size=batch_size,
            **options,
        )
        self._fused = model

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
            ValueError: also a question with a single passage, without which nothing is left.
        """
        op = "LeaveOneOut.scores"
        check_questions(op, questions, passages, at_least=2)
        golds = self._gold.written(check_answers(op, answers, len(questions)))
        found = self._fused.leave_one_out_log_likelihoods(
            self._prompts.texts(self.model, questions, passages),
            golds,
            append_eos=self._gold.append_eos,
            progress=self.name if progress is True else progress,
            **self._gold.batches,  # type: ignore[arg-type]
        )
        gains: list[float] = []
        for one in found:
            with_all, *without_each = self._gold.combined(one)
            gains.extend(with_all - value for value in without_each)
        return padded_rows(np.array(gains), list(map(len, passages)))
