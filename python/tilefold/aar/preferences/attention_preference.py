"""FiDAtt: the cross-attention of a fusion-in-decoder LM to each passage, AAR's preference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ...models import FusionInDecoder
from ...models.cross_attention import AttentionKind
from ...models.length_batches import check_batches
from .passage_prompts import Overlong, PassagePrompts
from .preference_signal import check_questions, signal_fingerprint


class FusedAttention:
    """Scores passages by the attention that a fusion-in-decoder LM pays them: FiDAtt.

    The LM encodes every passage with the question, and the decoder's first token attends to the
    tokens of all of them. With ``a[l, h, t]`` the logit of that attention in layer l and head h at
    token t, before the softmax, and T the tokens of passage and question, the score is

        ``S = mean over l, h and t in T of a[l, h, t]``

    It needs no answers. It may be negative, and only its order within a question means something.
    Yu et al. (ACL 2023, eq. 4) describe it, and this is how their code computes it; see
    `FusionInDecoder.attention_scores`, which stores none of the logits.

    Args:
        model: the source LM.
        template: of an input, with the fields {passage} and {question}. AAR's is
            ``"{passage}Answer the following question.\\n{question}"``.
        max_characters: characters that a passage is cut to, as AAR does; None for all of them.
        overlong: what happens to inputs with more tokens than the model's max_length: "error", or
            "cut passage" to cut the end of the passage until the input fits.
        kind: "logits" is the paper's; "mass" and "value norm" are extensions, see
            `FusionInDecoder.attention_scores`.
        batch_size: maximum number of questions at a time; with more of them, fewer tokens are
            padding, and the states of more tokens are in memory.
        batch_tokens: maximum number of tokens at a time, over all passages of the questions.

    Raises:
        TypeError: a model without cross-attention to several texts, such as a CausalLM.
        ValueError: an option as of `PassagePrompts`, an unknown kind.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from tilefold.models import FusionInDecoder, minilm
        >>> sizes = {"d_model": 8, "num_layers": 1, "decoder_start_token_id": 0}
        >>> config = T5Config(vocab_size=30522, **sizes)
        >>> whole = T5ForConditionalGeneration(config)  # random weights
        >>> model = FusionInDecoder(whole, minilm().tokenizer)
        >>> signal = FusedAttention(model, template="{passage} Question: {question}")
        >>> signal.scores(["what do hens do?"], [["Hens run.", "Cats sleep."]]).shape
        (1, 2)
    """

    needs_answers = False

    def __init__(
        self,
        model: FusionInDecoder,
        *,
        template: str,
        max_characters: int | None = 500,
        overlong: Overlong = "error",
        kind: AttentionKind = "logits",
        batch_size: int = 16,
        batch_tokens: int | None = None,
    ) -> None:
        if not isinstance(model, FusionInDecoder):
            raise TypeError(
                "FusedAttention: model must be a FusionInDecoder, whose decoder attends to each "
                f"passage, got {type(model).__name__}; CausalAttention and AnswerLikelihood take "
                "LMs without cross-attention"
            )
        if kind not in get_args(AttentionKind):
            raise ValueError(
                f"FusedAttention: kind must be one of {', '.join(get_args(AttentionKind))}, "
                f"got {kind!r}"
            )
        check_batches("FusedAttention", batch_size, batch_tokens)
        self._prompts = PassagePrompts("FusedAttention", template, max_characters, overlong)
        self.model = model
        self.kind: AttentionKind = kind
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens

    @property
    def name(self) -> str:
        """Returns "attention", with the kind of attention where it is not the paper's."""
        return "attention" if self.kind == "logits" else f"attention {self.kind}"

    @property
    def is_extension(self) -> bool:
        """Returns whether the kind of attention is not the paper's."""
        return self.kind != "logits"

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
            ValueError: also an input with more tokens than the model's max_length, unless overlong
                is "cut passage".
        """
        check_questions("FusedAttention.scores", questions, passages)
        return self.model.attention_scores(
            self._prompts.texts(self.model, questions, passages),
            kind=self.kind,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            progress="FiDAtt" if progress is True else progress,
        )

    def fingerprint(self) -> str:
        """Returns a digest of the LM, the template and the other options."""
        options: dict[str, Any] = {**self._prompts.options(), "kind": self.kind}
        return signal_fingerprint(self, self.model, options)
