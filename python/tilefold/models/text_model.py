"""Defines the parts shared by encoders and language models: a model with its tokenizer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..integers import as_integer
from . import adapters
from .checkpoints.checkpoint import limit, longest_limit
from .fingerprint import fingerprint
from .length_batches import Tokens


class TextModel(nn.Module):
    """Holds a model of transformers, its tokenizer, and the adapter that is in use.

    A tokenizer without a padding token pads with its end-of-sequence token, which the attention
    mask hides; a tokenizer with neither is refused.

    Args:
        model: of transformers.
        tokenizer: the tokenizer of the model.
        max_length: maximum number of tokens of a text, special tokens included; None for as many as
            model and tokenizer say, in an `Encoder` at most 256. T5, which has relative positions
            alone, takes more than its tokenizer says.
        adapter: name of the LoRA adapter of the model that is used here, see `add_lora`; a tuple
            of names uses several, whose updates add up, and an empty one none; None runs the model
            as it is.

    Raises:
        ValueError: an argument that the model or the tokenizer does not support.
    """

    _default_max_length: ClassVar[int | None] = None

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        max_length: int | None = None,
        adapter: adapters.AdapterNames | None = None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if max_length is None:
            usual = limit(model, tokenizer)
            max_length = min(self._default_max_length or usual, usual)
        longest = longest_limit(model, tokenizer)
        max_length = as_integer(max_length, kind, "max_length")
        if not 1 <= max_length <= longest:
            raise ValueError(
                f"{kind}: max_length must be between 1 and the model's {longest}, got {max_length}"
            )
        known: Any = model.peft_config if hasattr(model, "get_base_model") else {}
        for name in adapters.names_of(adapter) or ():
            if name not in known:
                raise ValueError(f"{kind}: no adapter {name!r} in the model's {list(known)}")
        if adapter == () and not known:
            raise ValueError(f"{kind}: adapter is (), but the model has none; pass None")
        # Older transformers advise against pad(); but texts are sorted between tokenizing and it.
        getattr(tokenizer, "deprecation_warnings", {})["Asking-to-pad-a-fast-tokenizer"] = True
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ValueError(
                    f"{kind}: the tokenizer has neither a padding token nor an end-of-sequence "
                    f"token to pad with; set tokenizer.pad_token"
                )
            tokenizer.pad_token = tokenizer.eos_token
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.adapter = adapter

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def longest(self) -> int:
        """The largest max_length that `with_options` takes."""
        return longest_limit(self.model, self.tokenizer)

    def fingerprint(self) -> str:
        """Returns a digest of weights, configuration, tokenizer and settings: see `fingerprint`."""
        return fingerprint(self)

    def settings(self) -> dict[str, Any]:
        """Returns the arguments besides weights that results depend on."""
        return {"max_length": self.max_length}

    def checkpoint_activations(self) -> None:
        """Trades time for memory: in training, blocks are computed again in the backward pass."""
        adapters.checkpoint_activations(self.model)

    def pad(
        self, tokens: Sequence[Tokens], *, side: Literal["left", "right"] = "right"
    ) -> Mapping[str, Tensor]:
        """Pads tokenized texts to a batch with an attention mask, on the device of the model.

        Args:
            tokens: tokens of each text, not padded.
            side: where padding goes.

        Raises:
            ValueError: there are no texts.
        """
        if not tokens:
            raise ValueError(f"{type(self).__name__}.pad: expected tokens of 1 text or more, got 0")
        batch: Any = self.tokenizer.pad(list(tokens), padding_side=side, return_tensors="pt")
        moved: Mapping[str, Tensor] = batch.to(self.device)
        return moved

    def _merged(self) -> nn.Module:
        """Returns a copy of the model with the adapters in use added to its weights."""
        if self.adapter is None:
            raise ValueError(f"{type(self).__name__}.merge: there is no adapter")
        return adapters.merged(self.model, self.adapter)

    def _without_adapters(self) -> Any:
        """Returns the transformers model under peft's wrapper; adapters in it stay in effect."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _takes(self, argument: str) -> bool:
        """Returns whether the forward call of the model has an argument of that name."""
        return argument in inspect.signature(self._without_adapters().forward).parameters
