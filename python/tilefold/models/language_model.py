"""Defines the parts shared by all language models: loading, saving, adapters and batches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..files.published_folder import written_aside
from . import adapters
from .checkpoints import encoder_settings
from .checkpoints.announced_tokens import warn_of_missing_tokens
from .checkpoints.language_model_checkpoint import load_language_model
from .checkpoints.weights import quiet
from .length_batches import Text, Tokens, by_length, check_batches, check_texts, evaluating
from .text_model import TextModel

_DTYPES = torch.float32, torch.bfloat16


class LanguageModel(TextModel):
    """Reads texts with a model that has a language modelling head; see the subclasses.

    Texts are never cut: one with more tokens than max_length is an error that names it.

    Args:
        model, tokenizer, max_length, adapter: of `TextModel`.
    """

    _auto_class: ClassVar[str]  # of transformers
    _inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, dtype: torch.dtype = torch.float32, **options: Any
    ) -> Self:
        """Loads a folder, or a model of the Hugging Face hub, with its language modelling head.

        A folder with a LoRA adapter is loaded over the model that it names.

        Args:
            name: folder or hub name.
            dtype: precision of weights and arithmetic, torch.float32 or torch.bfloat16. Softmax is
                computed in float32 in any case.
            **options: `max_length` and `adapter`, which take precedence over those of the folder.

        Raises:
            OSError: there is no such model.
            ValueError: the checkpoint lacks weights, such as the head, or has some of other shapes
                or that the model does not use; another dtype.

        Warns:
            UserWarning: the tokenizer's configuration announces a first token that it does not add.
        """
        import transformers

        if dtype not in _DTYPES:
            raise ValueError(
                f"{cls.__name__}.from_pretrained: dtype must be torch.float32 or torch.bfloat16, "
                f"got {dtype}"
            )
        named = {"adapter": options["adapter"]} if options.get("adapter") else {}
        kind = getattr(transformers, cls._auto_class)
        model, tokenizer, settings = load_language_model(kind, name, dtype=dtype, **named)
        # Nothing is to follow the last token of a text that is continued.
        warn_of_missing_tokens(tokenizer, {"append_eos": True}, begin="begin each text with {!r}")
        return cls(model, tokenizer, **{**settings, **options})

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that `from_pretrained` and the classes of transformers can load.

        With an adapter, the adapter alone is written, in peft's format, and the name of the model
        under it. The folder appears whole or not at all.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
            ValueError: the model has adapters and none is in use; the model under an adapter was
                not loaded from anywhere.
        """
        with written_aside(folder, encoder_settings.FILE) as partial:
            self.write_weights(partial)
            encoder_settings.write(partial, "language model", self.settings())

    def write_weights(self, folder: Path) -> None:
        """Writes model or adapter, and tokenizer, without settings.

        Args:
            folder: exists.
        """
        model: Any = self.model
        if self.adapter == ():
            model = self._merged()
        if self.adapter:
            adapters.save_adapter(model, self.adapter, folder)
        elif hasattr(model, "peft_config"):
            raise ValueError("save_pretrained: the model has adapters; name one with `adapter`")
        else:
            with quiet():
                model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def with_options(self, **options: Any) -> Self:
        """Returns a language model over the same weights, with other options.

        Args:
            **options: max_length or adapter; the others stay.
        """
        same = {**self.settings(), "adapter": self.adapter}
        return type(self)(self.model, self.tokenizer, **{**same, **options})

    def merge(self) -> Self:
        """Returns a plain model, with the adapter added to a copy of the weights.

        Raises:
            ValueError: there is no adapter.
        """
        return type(self)(self._merged(), self.tokenizer, **self.settings())

    def forward(self, tokens: Mapping[str, Tensor], **options: Any) -> Any:
        """Calls the model with the adapter in use, and returns its output.

        Differentiable.

        Args:
            tokens: a padded batch with its attention mask.
            **options: other arguments of the model.
        """
        with adapters.active(self.model, self.adapter):
            return self.model(**tokens, **options)

    def _tokenized(self, texts: Sequence[str], **options: Any) -> Any:
        """Checks texts and tokenizes them, special tokens included; no text gives no tokens.

        Raises:
            TypeError: a single string, or texts that are no strings.
        """
        check_texts(texts, f"{type(self).__name__}.tokenize")
        if not len(texts):
            return {"input_ids": []}
        # A tokenizer warns of texts beyond its own limit; here max_length decides, in an error.
        return self.tokenizer(list(texts), verbose=False, **options)

    def pad(self, tokens: Sequence[Tokens], **options: Any) -> Mapping[str, Tensor]:
        """Pads tokenized texts to a batch of the inputs that the model reads: see `TextModel.pad`.

        Args:
            tokens: tokens of each text, not padded.
            **options: of `TextModel.pad`.
        """
        # GPT-2 would add the embeddings of token types, all zero, as those of words.
        read = [{name: row[name] for name in self._inputs if name in row} for row in tokens]
        return super().pad(read, **options)

    @contextlib.contextmanager
    def _inference(
        self,
        op: str,
        texts: Sequence[Text],
        tokenize: Callable[[Sequence[Text]], list[Tokens]],
        batch_size: int,
        batch_tokens: int | None,
        **options: Any,
    ) -> Iterator[Iterator[tuple[NDArray[np.int64], list[Tokens]]]]:
        """Iterates over batches, with dropout and gradients off."""
        check_batches(f"{type(self).__name__}.{op}", batch_size, batch_tokens)
        batches = by_length(
            texts,
            tokenize,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            max_length=self.max_length,
            **options,
        )
        with evaluating(self), torch.inference_mode(), contextlib.closing(batches):
            yield batches

    def _check_length(self, op: str, text: str, length: int) -> None:
        if length > self.max_length:
            raise ValueError(
                f"{type(self).__name__}.{op}: a text has {length} tokens, more than max_length "
                f"{self.max_length}: {text!r:.60}"
            )
