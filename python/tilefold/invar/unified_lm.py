"""Defines a causal LM with two adapters: one encodes texts for retrieval, one writes answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import nn

from ..data import TITLE_FORMAT
from ..files.done_once import digest_of
from ..models import BiEncoder, CausalLM, Encoder, Lora
from ..models.adapters import AdapterNames, belongs, checkpoint_activations
from ..models.fingerprint import digest_of_weights
from .adapter_sources import GENERATION, RETRIEVAL, add_adapter, retriever_options
from .unified_folder import check_plain, read_unified, write_unified

Part = Literal["retrieval", "generation"]
InGeneration = Literal["inactive", "merged"]


class UnifiedLM(nn.Module):
    """A causal LM that retrieves with one adapter and answers with another.

    `retriever` and `generator` share one model in memory, and switch to their adapters when they
    run. Texts are encoded as by RepLLaMA (Ma et al., SIGIR 2024): "query: ..." and "passage: ...",
    an end-of-sequence token, and the last state, scaled to length 1.

    Args:
        model: of transformers with a language modelling head; it may have adapters of peft named
            "retrieval" and "generation". Without an adapter for retrieval, the retriever uses, and
            trains, the weights of the model.
        tokenizer: a fast one.
        retrieval_in_generation: state of the adapter for retrieval when the model generates.
            "inactive" leaves it out; "merged" adds its update to the weights under the adapter for
            generation: p(y | θ + Δθ_r + Δθ_g). None for "inactive"; or, without such an adapter,
            for "merged", as the retriever changes the model's weights themselves.
        query_prefix, passage_prefix: put before each text.
        query_max_length, passage_max_length: tokens of a text that are read, prefix and special
            tokens included; None for 256, or as many as the model can read.
        title_format: joins titles and texts of passages.
        pooling, normalize, append_eos: of `Encoder`.
        max_length: maximum number of tokens of a prompt with its answer; None for as many as the
            model can read.

    Attributes:
        retriever: the `BiEncoder`.
        generator: the `CausalLM`.
        retrieval_in_generation: as above.

    Raises:
        ValueError: an argument that the model or the tokenizer does not support, such as append_eos
            without an end-of-sequence token; adapters of other names.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = GPT2LMHeadModel(config)  # random weights
        >>> unified = UnifiedLM(model, minilm().tokenizer, append_eos=False)
        >>> unified.retriever.encode_queries(["who?"], progress=False).shape
        (1, 8)
        >>> unified.retriever.query_encoder.model is unified.generator.model
        True
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        retrieval_in_generation: InGeneration | None = None,
        query_prefix: str = "query: ",
        passage_prefix: str = "passage: ",
        query_max_length: int | None = None,
        passage_max_length: int | None = None,
        title_format: str = TITLE_FORMAT,
        pooling: str = "last",
        normalize: bool = True,
        append_eos: bool = True,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        names = set(getattr(model, "peft_config", {}))
        if names - {RETRIEVAL, GENERATION}:
            raise ValueError(
                f"UnifiedLM: adapters must be named {RETRIEVAL!r} and {GENERATION!r}, got "
                f"{sorted(names)}"
            )
        if append_eos and tokenizer.eos_token is None:
            raise ValueError(
                "UnifiedLM: append_eos, but the tokenizer has no end-of-sequence token; set "
                "tokenizer.eos_token, or pass append_eos=False"
            )
        self.retrieval_in_generation = _checked_state(retrieval_in_generation, names)
        self._names = names
        query = Encoder(
            model,
            tokenizer,
            pooling=pooling,
            normalize=normalize,
            append_eos=append_eos,
            prefix=query_prefix,
            max_length=query_max_length,
            adapter=self._in_use(RETRIEVAL),
        )
        passage = query.with_options(prefix=passage_prefix, max_length=passage_max_length)
        self.retriever = BiEncoder(query, passage, title_format=title_format)
        merged = (RETRIEVAL,) if self.retrieval_in_generation == "merged" else ()
        self.generator = CausalLM(
            model, tokenizer, max_length=max_length, adapter=self._in_use(*merged, GENERATION)
        )
        self.train(model.training)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        retrieval: Lora | str | Path | None = Lora(),  # noqa: B008 (frozen)
        generation: Lora | None = Lora(),  # noqa: B008
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> Self:
        """Loads a causal LM, a folder or a model of the Hugging Face hub, and adds adapters to it.

        Only what stage 1 trains requires gradients then: see `train_only`.

        Args:
            name: folder or hub name of a model without adapters.
            retrieval: size of the new adapter for retrieval, drawn from torch's random state; or
                folder or hub name of a retriever's adapter that was trained on this model, whose
                prefixes, lengths and pooling are taken where `options` have none; or None to
                retrieve with, and train, all weights.
            generation: size of the adapter for generation; None for none, which leaves the
                generator as it is loaded.
            dtype: of `CausalLM.from_pretrained`.
            **options: of `UnifiedLM`.

        Raises:
            OSError: there is no such model.
            ValueError: the folder has adapters; `retrieval` is an adapter of another model, or has
                a projection; an argument that the model or the tokenizer does not support.
        """
        check_plain(name)
        lm = CausalLM.from_pretrained(name, dtype=dtype)
        if isinstance(retrieval, str | Path):
            options = {**retriever_options(lm.model, retrieval), **options}
        for part, source in ((RETRIEVAL, retrieval), (GENERATION, generation)):
            if source is not None:
                lm.model = add_adapter(lm.model, source, part)
        unified = cls(lm.model, lm.tokenizer, **options)
        unified.train_only(RETRIEVAL)
        return unified

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Loads a folder that `save_pretrained` wrote, in the precision of its model.

        Raises:
            FileNotFoundError: there is no such folder, or a part of it is missing.
            ValueError: another kind of folder; the weights of the model that it names, or of an
                adapter, are those of another model.
        """
        lm, options = read_unified(folder)
        unified = cls(lm.model, lm.tokenizer, **options)
        unified.train_only(RETRIEVAL)
        return unified

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes adapters to the folders "retrieval" and "generation", and names their model.

        The folder "retrieval" is one for `BiEncoder.from_pretrained` as well, and "generation" for
        `CausalLM.from_pretrained`, the latter only where the adapter for retrieval is inactive in
        generation. A model without a name, or whose own weights are trained, is written to the
        folder "base". The folder appears whole or not at all.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
        """
        write_unified(self, folder)

    @property
    def model(self) -> Any:
        """The model that both share, with its adapters."""
        return self.generator.model

    @property
    def plain(self) -> CausalLM:
        """The language model without any adapter, over the same weights."""
        return self.generator.with_options(adapter=self._in_use())

    def has(self, part: Part) -> bool:
        """Returns whether there is an adapter for retrieval, or for generation."""
        return _checked_part(part, "UnifiedLM.has") in self._names

    def weights_of(self, part: Part) -> dict[str, nn.Parameter]:
        """Returns the weights that `train_only` of a part trains, by their names in the model.

        Args:
            part: "retrieval" for that adapter or, without one, for all weights of the model that
                the retriever uses; "generation" for that adapter.

        Raises:
            ValueError: another part, or there is no adapter for generation.
        """
        name = _checked_part(part, "UnifiedLM.weights_of")
        weights = dict(self.model.named_parameters())
        if name in self._names:
            return {key: weight for key, weight in weights.items() if belongs(key, name)}
        if name == GENERATION:
            raise ValueError(
                "UnifiedLM: there is no adapter for generation to train; pass generation=Lora(...)"
            )
        below = {id(weight) for weight in self.retriever.query_encoder.below().parameters()}
        return {
            key: weight
            for key, weight in weights.items()
            if id(weight) in below and not belongs(key, GENERATION)
        }

    def train_only(self, part: Part) -> None:
        """Lets the weights of one part require gradients, and no others: see `weights_of`.

        Args:
            part: "retrieval" or "generation".

        Raises:
            ValueError: another part, or there is no adapter for generation.
        """
        own = self.weights_of(part)
        for weight in self.model.parameters():
            weight.requires_grad_(False)
        for weight in own.values():
            weight.requires_grad_(True)

    def frozen_digest(self, part: Part) -> str:
        """Returns a digest of all weights but those that `train_only` of a part would train.

        Args:
            part: "retrieval" or "generation".

        Raises:
            ValueError: another part, or there is no adapter for generation.
        """
        own = self.weights_of(part)
        weights = self.model.state_dict().items()
        return digest_of_weights((key, weight) for key, weight in weights if key not in own)

    def fingerprint(self) -> str:
        """Returns a digest of everything that embeddings and answers depend on."""
        towers = self.retriever.query_encoder, self.retriever.document_encoder
        parts = [part.fingerprint() for part in (*towers, self.generator)]
        return digest_of(["UnifiedLM", *parts, self.retriever.title_format])

    def checkpoint_activations(self) -> None:
        """Trades time for memory: in training, blocks are computed again in the backward pass."""
        checkpoint_activations(self.model)

    def _in_use(self, *wanted: str) -> AdapterNames | None:
        """Returns those of the wanted adapters that there are; None if there are none at all."""
        found = tuple(name for name in wanted if name in self._names)
        if not self._names:
            return None
        return found[0] if len(found) == 1 else found


def _checked_part(part: Any, op: str) -> str:
    if part not in get_args(Part):
        raise ValueError(f"{op}: part must be 'retrieval' or 'generation', got {part!r}")
    return str(part)


def _checked_state(state: Any, names: set[str]) -> InGeneration:
    if state is not None and state not in get_args(InGeneration):
        raise ValueError(
            f"UnifiedLM: retrieval_in_generation must be 'inactive' or 'merged', got {state!r}"
        )
    if RETRIEVAL not in names:
        if state == "inactive":
            raise ValueError(
                "UnifiedLM: retrieval_in_generation is 'inactive', but without an adapter for "
                "retrieval the retriever changes the weights that the generator uses; expected "
                "'merged' or None"
            )
        return "merged"
    return "merged" if state == "merged" else "inactive"
