"""Runs masked language models: scores and probabilities of words at a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .attention_check import check_attention
from .language_model import LanguageModel
from .length_batches import Tokens, check_texts


def mask_logits(model: nn.Module, tokens: Mapping[str, Tensor], mask_token: int) -> Tensor:
    """Computes the logits of all words at the first mask of each text.

    Differentiable.

    Args:
        model: of transformers, or a `MaskedLM`; its output has `logits`.
        tokens: a batch of texts with a mask each, and their attention mask.
        mask_token: id of the mask.

    Returns:
        ``[texts, vocabulary]``, in the precision of the model.
    """
    own = isinstance(model, MaskedLM)
    logits: Tensor = (model(tokens) if own else model(**tokens)).logits
    place = (tokens["input_ids"] == mask_token).int().argmax(1)
    return logits[torch.arange(len(place), device=logits.device), place]


class MaskedLM(LanguageModel):
    """A masked language model of transformers, such as BERT, with its tokenizer.

    Args:
        model: with the head of a masked language model.
        tokenizer: has a mask token.
        max_length: maximum number of tokens of a text, special tokens included; None for as many as
            the model can read.
        adapter: name of the LoRA adapter in use; None runs the model as it is.

    Raises:
        ValueError: an argument that the model or the tokenizer does not support.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> from tilefold.models import minilm
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        >>> config = BertConfig(vocab_size=30522, **sizes)
        >>> model = MaskedLM(BertForMaskedLM(config), minilm().tokenizer)  # random weights
        >>> model.probabilities(["Paris is in [MASK]."], ["france"]).shape
        (1,)
    """

    _auto_class = "AutoModelForMaskedLM"
    _inputs = ("input_ids", "token_type_ids", "attention_mask")

    def __init__(self, model: nn.Module, tokenizer: Any, **options: Any) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError("MaskedLM: the tokenizer has no mask token")
        check_attention("MaskedLM", model, causal=False)
        super().__init__(model, tokenizer, **options)
        self.train(model.training)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Returns the tokens of each text, which has exactly one mask; not padded.

        Raises:
            ValueError: a text with no mask or several, or with more than max_length tokens.
        """
        batch = self._tokenized(texts)
        tokens = [{name: batch[name][row] for name in batch} for row in range(len(texts))]
        for text, one in zip(texts, tokens, strict=True):
            self._check_length("tokenize", text, len(one["input_ids"]))
            masks = one["input_ids"].count(self.tokenizer.mask_token_id)
            if masks != 1:
                raise ValueError(
                    f"MaskedLM.tokenize: a text must have one {self.tokenizer.mask_token}, got "
                    f"{masks}: {text!r:.60}"
                )
        return tokens

    def word_ids(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Returns the token ids of words, ``[words]``.

        Args:
            words: each is one token.

        Raises:
            ValueError: a word that the tokenizer does not know, or splits into several tokens.
        """
        check_texts(words, "MaskedLM.word_ids", "words")
        found = []
        for word in words:
            ids = self.tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(ids) != 1 or ids[0] == self.tokenizer.unk_token_id:
                raise ValueError(
                    f"MaskedLM.word_ids: {word!r} is not one token but {len(ids)}: {ids}"
                )
            found.append(ids[0])
        return np.array(found, np.int64)

    def logits(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Computes the logits of all words at the mask of each text.

        Args:
            texts: strings with exactly one mask each.
            batch_size: maximum number of texts per forward pass.
            batch_tokens: maximum number of tokens per forward pass, padding included.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            float32 ``[texts, vocabulary]``.

        Raises:
            TypeError: texts that are not strings.
            ValueError: see `tokenize`.
        """
        check_texts(texts, "MaskedLM.logits")
        found: NDArray[np.float32] | None = None
        run = self._inference(
            "logits", texts, self.tokenize, batch_size, batch_tokens, progress=progress
        )
        with run as batches:
            for rows, tokens in batches:
                scores = mask_logits(self, self.pad(tokens), self.tokenizer.mask_token_id).float()
                if found is None:
                    found = np.zeros((len(texts), scores.shape[1]), np.float32)
                found[rows] = scores.cpu().numpy()
        return np.zeros((0, len(self.tokenizer)), np.float32) if found is None else found

    def probabilities(
        self,
        texts: Sequence[str],
        words: Sequence[str],
        *,
        candidates: Sequence[str] | None = None,
        **options: Any,
    ) -> NDArray[np.float32]:
        """Computes the probability of a word at the mask of each text.

        Args:
            texts: strings with exactly one mask each.
            words: the word to look for in each text, one token each.
            candidates: the words among which probabilities sum to 1; None for all words.
            **options: of `logits`.

        Returns:
            float32 ``[texts]``.

        Raises:
            TypeError: a single string, or items that are not strings.
            ValueError: not as many words as texts; a word that is not one token, or is not among
                the candidates; a candidate given twice.
        """
        check_texts(texts, "MaskedLM.probabilities", "texts")
        check_texts(words, "MaskedLM.probabilities", "words")
        if candidates is not None:
            check_texts(candidates, "MaskedLM.probabilities", "candidates")
        if len(words) != len(texts):
            raise ValueError(
                f"MaskedLM.probabilities: expected as many words as texts, got {len(words)} and "
                f"{len(texts)}"
            )
        columns = self.word_ids(words)
        among = None if candidates is None else self._candidates(words, candidates)
        scores = torch.from_numpy(self.logits(texts, **options))
        if among is not None:
            scores = scores[:, list(among)]
            columns = np.array([among[int(i)] for i in columns], np.int64)
        chosen = torch.from_numpy(columns)[:, None]
        found: NDArray[np.float32] = scores.softmax(1).gather(1, chosen)[:, 0].numpy()
        return found

    def _candidates(self, words: Sequence[str], candidates: Sequence[str]) -> dict[int, int]:
        """Maps token ids to places among the candidates."""
        ids = self.word_ids(candidates)
        place = {int(i): column for column, i in enumerate(ids)}
        if len(place) < len(ids):
            raise ValueError("MaskedLM.probabilities: two of the candidates are the same token")
        for word, i in zip(words, self.word_ids(words), strict=True):
            if int(i) not in place:
                raise ValueError(f"MaskedLM.probabilities: {word!r} is not among the candidates")
        return place
