"""Encodes texts with any transformers model, pooled to one vector per text."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..activations.pooling import POOLINGS
from ..files.published_folder import written_aside
from . import adapters
from .checkpoints import encoder_settings
from .checkpoints.announced_tokens import warn_of_missing_tokens
from .checkpoints.checkpoint import base_model_name, describe, existing, load
from .encoder_folder import write_encoder, write_sentence_transformers
from .length_batches import Tokens, by_length, check_batches, check_texts, evaluating
from .text_model import TextModel


class Encoder(TextModel):
    """Encodes texts as vectors with a transformers model and its tokenizer.

    `encode` takes texts and returns arrays; `forward`, which is differentiable, takes tokens and
    returns tensors.

    Args:
        model: its output has `last_hidden_state`; or a language model, whose head is not used, such
            as the model of a `CausalLM`, which is shared then: see `Encoder.over`.
        tokenizer: the tokenizer of the model.
        pooling: "mean" (over the tokens of the text), "cls" (first token), "last" (last token), or
            "decoder" (first state of the decoder of an encoder-decoder model such as T5, as in
            Ni et al., Sentence-T5, Findings of ACL 2022).
        normalize: scale embeddings to length 1, so that inner product is cosine.
        max_length: tokens of a text that are read, prefix and special tokens included; by default
            256, or as many as the model can read.
        prefix: put before each text, such as "query: ".
        append_eos: ends each text, cut or not, with the tokenizer's end of sequence, as RepLLaMA
            does for "last" pooling (Ma et al., SIGIR 2024); where it is there already, it stays.
        projection: applied after pooling, such as `nn.Linear(hidden, dim)`; what can be saved is
            `nn.Linear`, or `nn.Sequential` of these and activations.
        adapter: name of the LoRA adapter of the model that is used here, see `add_lora`; a tuple
            of names uses several, whose updates add up, and an empty one none; None runs the model
            as it is.

    Raises:
        ValueError: an argument that the model or the tokenizer does not support.

    >>> from tilefold.models import minilm
    >>> encoder = minilm()
    >>> encoder.encode(["a cat sleeps", "the invoice is due"]).shape
    (2, 384)
    """

    _default_max_length = 256

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        max_length: int | None = None,
        prefix: str = "",
        append_eos: bool = False,
        projection: nn.Module | None = None,
        adapter: adapters.AdapterNames | None = None,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"Encoder: unknown pooling {pooling!r}; use one of {list(POOLINGS)}")
        config: Any = model.config
        if pooling == "decoder" and getattr(config, "decoder_start_token_id", None) is None:
            raise ValueError(
                f"Encoder: pooling 'decoder' needs an encoder-decoder model with a "
                f"decoder_start_token_id, got {type(model).__name__}"
            )
        if not hasattr(config, "hidden_size"):
            raise ValueError(f"Encoder: {type(model).__name__} encodes no text: no hidden_size")
        if not isinstance(prefix, str):
            raise TypeError(f"Encoder: prefix must be a string, got {type(prefix).__name__}")
        if append_eos and tokenizer.eos_token is None:
            raise ValueError("Encoder: append_eos, but the tokenizer has no end-of-sequence token")
        super().__init__(model, tokenizer, max_length=max_length, adapter=adapter)
        self.pooling = pooling
        self.normalize = normalize
        self.prefix = prefix
        self.append_eos = append_eos
        self.projection = projection
        self._may_cache = self._takes("use_cache")
        self.dim = _dim(config.hidden_size, projection)
        self.train(model.training)  # a model that was loaded is ready to encode

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """Loads a folder, or a model of the Hugging Face hub, in float32.

        A folder of sentence-transformers, or one that `save_pretrained` wrote, has pooling and
        other settings with it. Of an encoder-decoder model the encoder is taken, unless pooling is
        "decoder". A checkpoint of DPR is loaded with the class that its weights are named after
        (AutoModel would leave a context encoder random), as the BERT in it with "cls" pooling. A
        folder with a LoRA adapter is loaded over the model that it names.

        Args:
            name: folder or hub name.
            **options: of `Encoder`, which take precedence over those of the folder.

        Raises:
            OSError: there is no such model.
            ValueError: the checkpoint lacks weights of the model, which would stay random, or has
                some of other shapes; its settings for queries, documents and other texts differ.

        Warns:
            UserWarning: the tokenizer's configuration announces a first or last token that it does
                not add.
        """
        chosen = {key: options[key] for key in ("pooling", "adapter") if options.get(key)}
        model, tokenizer, description = load(name, **chosen)
        query, document = description.query, description.document
        differ = {key for key in query if query[key] != document.get(key)}
        if differ - set(options):
            raise ValueError(
                f"Encoder.from_pretrained: {name} has another {min(differ - set(options))} for "
                f"queries than for documents; use BiEncoder.from_pretrained, or pass it here"
            )
        default = description.default_prefix
        if default not in (None, query.get("prefix")) and "prefix" not in options:
            raise ValueError(
                f"Encoder.from_pretrained: {name} has the prompt {default!r} for texts that are "
                f"neither queries nor documents, and {query['prefix']!r} for these; pass one as "
                f"prefix"
            )
        warn_of_missing_tokens(tokenizer, {**query, **options})
        return cls(model, tokenizer, **{**query, **options})

    @classmethod
    def over(cls, other: TextModel, name: str | Path, *, adapter: str, **options: Any) -> Self:
        """Loads an adapter over the model of a `CausalLM`, or of an encoder, which both share.

        A retriever and a generator may have an adapter each over one model in memory, and switch
        to it when they run.

        Args:
            other: has an adapter; its model gets another one.
            name: folder or hub name of an encoder's adapter.
            adapter: name of the adapter from here on.
            **options: of `Encoder`, which take precedence over those of the folder.

        Raises:
            ValueError: there is no adapter, it belongs to another model, or does not fit; its name
                is taken.

        Example:
            >>> lm = CausalLM.from_pretrained("generator", adapter="generation")  # doctest: +SKIP
            >>> Encoder.over(lm, "retriever", adapter="retrieval").adapter  # doctest: +SKIP
            'retrieval'
        """
        if other.adapter is None:
            raise ValueError("Encoder.over: the other model has no adapter; see add_lora")
        source = existing(name)
        bases = base_model_name(source), adapters.base_name(other.model)
        if bases[0] != bases[1]:
            raise ValueError(
                f"Encoder.over: {name} is an adapter of {bases[0]}, and the model is {bases[1]}"
            )
        model = adapters.load_adapter(other.model, source, adapter)
        settings = describe(source).query
        return cls(model, other.tokenizer, **{**settings, **options, "adapter": adapter})

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that AutoModel, AutoTokenizer and `from_pretrained` can load.

        Weights are safetensors. With an adapter it is the adapter alone that is written, in peft's
        format, and the name of the model under it. The folder appears whole: a full disk leaves one
        that was saved before as it was.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
            ValueError: a projection, or a model, that could not be loaded again.
        """
        with written_aside(folder, encoder_settings.FILE) as partial:
            encoder_settings.write(
                partial, "encoder", {**self.settings(), **write_encoder(self, partial)}
            )

    def export_sentence_transformers(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder whose embeddings by SentenceTransformer are those of `encode`.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
            ValueError: an adapter (merge it first), append_eos, or a pooling or projection that
                sentence-transformers lacks.
        """
        with written_aside(folder, encoder_settings.FILE) as partial:
            record = write_sentence_transformers(self, partial, self)
            encoder_settings.write(partial, "encoder", {**self.settings(), **record})

    def settings(self) -> dict[str, Any]:
        """Returns the arguments of `Encoder` besides weights that its vectors depend on."""
        names = "pooling", "normalize", "max_length", "prefix", "append_eos"
        return {name: getattr(self, name) for name in names}

    def with_options(self, **options: Any) -> Encoder:
        """Returns an encoder over the same weights, with other options.

        Args:
            **options: of `Encoder`, such as prefix, max_length or adapter; the others stay.
        """
        same = {**self.settings(), "projection": self.projection, "adapter": self.adapter}
        return Encoder(self.model, self.tokenizer, **{**same, **options})

    def merge(self) -> Encoder:
        """Returns a plain encoder, with the adapter added to a copy of the model's weights.

        Raises:
            ValueError: there is no adapter.
        """
        options = {**self.settings(), "projection": self.projection}
        return Encoder(self._merged(), self.tokenizer, **options)

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Computes embeddings ``[n, dim]``, at least float32, of a padded batch with its mask."""
        tokens = _padded_on_the_right(tokens)
        hidden = self.run(tokens).last_hidden_state
        pooled = POOLINGS[self.pooling](hidden, tokens["attention_mask"])
        if self.projection is not None:
            weight = next(self.projection.parameters(), pooled)
            pooled = self.projection(pooled.to(weight.dtype))
        pooled = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
        return F.normalize(pooled, dim=-1) if self.normalize else pooled

    def run(self, tokens: Mapping[str, Tensor], **options: Any) -> Any:
        """Calls the model, without a head that it may have, with the adapter in use.

        Args:
            tokens: a padded batch with its mask.
            **options: other arguments of the model, such as output_hidden_states.

        Returns:
            The output of the model, which has `last_hidden_state`.
        """
        inputs = self._decoder_inputs(tokens["attention_mask"])
        with adapters.active(self.model, self.adapter):
            return self.below()(**tokens, **inputs, **options)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Returns the tokens of each text with its prefix, cut to max_length and not padded."""
        prefixed = [self.prefix + text for text in texts]
        length = self.max_length - self.append_eos
        batch: Any = self.tokenizer(prefixed, truncation=True, max_length=length)
        tokens = [{name: batch[name][row] for name in batch} for row in range(len(texts))]
        return [self._ended(row) for row in tokens] if self.append_eos else tokens

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = True,
        dtype: torch.dtype | None = None,
    ) -> NDArray[np.float32]:
        """Computes embeddings of texts.

        How texts are put into batches changes them by rounding alone.

        Args:
            texts: strings. One without any token (an empty one, where there are neither special
                tokens nor a prefix) becomes the zero vector.
            batch_size: maximum number of texts per forward pass.
            batch_tokens: maximum number of tokens per forward pass, padding included; None for no
                such limit. A text that has more by itself is a batch of its own.
            progress: whether to show progress on stderr; a string labels it.
            dtype: `torch.bfloat16` for autocast to it; None for the precision of the weights.

        Returns:
            float32 [len(texts), dim].
        """
        check_texts(texts)
        check_batches("Encoder.encode", batch_size, batch_tokens)
        if dtype not in (None, torch.bfloat16):
            raise ValueError(f"Encoder.encode: dtype must be None or torch.bfloat16, got {dtype}")
        embeddings = np.zeros((len(texts), self.dim), np.float32)
        batches = by_length(
            texts,
            self.tokenize,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            max_length=self.max_length,
            progress=progress,
        )
        precision = torch.autocast(self.device.type, torch.bfloat16, enabled=dtype is not None)
        with evaluating(self), torch.inference_mode(), precision, contextlib.closing(batches):
            for rows, tokens in batches:
                embeddings[rows] = self(self.pad(tokens)).float().cpu().numpy()
        return embeddings

    @property
    def below_head(self) -> str:
        """Prefix of the names of weights in a model with a head, "model." in Llama; or ""."""
        whole = self._without_adapters()
        below = getattr(whole, "base_model", whole)
        return "" if below is whole else f"{whole.base_model_prefix}."

    def below(self) -> Any:
        """Returns the model without its head, if it has one; adapters in it stay in effect."""
        return self._without_adapters().base_model if self.below_head else self.model

    def _ended(self, tokens: Tokens) -> Tokens:
        eos = self.tokenizer.eos_token_id
        if tokens["input_ids"][-1:] == [eos]:
            return tokens
        last = {"input_ids": eos, "attention_mask": 1}
        return {name: [*row, last.get(name, 0)] for name, row in tokens.items()}

    def _decoder_inputs(self, mask: Tensor) -> dict[str, Any]:
        """Returns inputs besides tokens: the decoder's start token, no cache of keys and values."""
        model: Any = self.model
        inputs: dict[str, Any] = {}
        if self.pooling == "decoder":
            start = model.config.decoder_start_token_id
            inputs["decoder_input_ids"] = mask.new_full((len(mask), 1), start)
        if self._may_cache:
            inputs["use_cache"] = False
        return inputs


def _dim(hidden_size: int, projection: nn.Module | None) -> int:
    if projection is None:
        return int(hidden_size)
    weight = next(projection.parameters(), torch.empty(0))
    try:
        with evaluating(projection), torch.no_grad():
            projected: Tensor = projection(weight.new_zeros(1, hidden_size))
    except RuntimeError as error:
        raise ValueError(
            f"Encoder: projection cannot take the model's {hidden_size} dimensions: {error}"
        ) from error
    return int(projected.shape[-1])


def _padded_on_the_right(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Moves padding to the right: positions then count from the first token."""
    order = tokens["attention_mask"].argsort(dim=1, descending=True, stable=True)
    return {name: rows.gather(1, order) for name, rows in tokens.items()}
