"""Provides losses for the trainer of sentence-transformers, and its search and mining.

sentence-transformers itself is not imported; where it is in use, its own function encodes columns
of texts. A model is any module that maps the features of a column to a dict with
"sentence_embedding", and a loss any module with `model`, `get_config_dict` and `citation`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"tilefold.integrations.sentence_transformers needs torch ({error}): "
        'pip install "tilefold[sentence-transformers]"'
    ) from error
from torch import Tensor, nn
from torch.nn import functional as F

from .. import losses
from ..devices import check_device
from ..losses.gradcache import cached_embeddings, no_sync_of
from .duplicates import masks_of_duplicates
from .hard_negatives import mine_hard_negatives as mine_hard_negatives
from .mini_batches import Features, mini_batches
from .semantic_search import semantic_search as semantic_search


class InBatchContrastiveLoss(nn.Module):
    """Computes `contrastive_loss` for the trainer of sentence-transformers, on the CPU.

    Columns of the data set are anchor, positive and any number of negatives. The candidates of an
    anchor are the positives and negatives of all anchors. With ``mask_duplicates=False`` this
    equals ``MultipleNegativesRankingLoss(model, scale=1 / temperature)``, and with `symmetric` the
    one with directions "query_to_doc" and "doc_to_query", without the matrix of scores. There are
    kernels for the CPU only so far: train with ``use_cpu=True``, or use that loss.

    With `mask_duplicates`, repeated texts are not negatives of each other: the document of an equal
    anchor, a document equal to one that is not a negative, and a document equal to the anchor.
    Texts are compared by their tokens as the model reads them, prompt included, so dropout does
    not matter, nor padding where there is an attention mask (without one, padding counts as
    tokens); a batch sampler without duplicates is not needed.

    A learned temperature is part of the optimizer of the trainer, under the name ``log_scale``
    (as in ``learning_rate_mapping={"log_scale": 1e-3}``: rates for encoders hardly move it). The
    trainer saves models without their losses: to keep it, save ``loss.objective.state_dict()``.
    Under DDP it needs a `process_group`, over which its gradient is averaged.

    Args:
        model: a `SentenceTransformer`, or a module that takes features and returns a dict with
            "sentence_embedding" ``[rows, dim]``.
        temperature: scores are divided by it; the initial value where it is learned.
        learn_temperature: keep ``log_scale = -log(temperature)`` as a parameter, as CLIP does.
        symmetric: average this loss with the same loss over documents.
        normalize: scale embeddings to length 1, so that scores are cosines.
        mask_duplicates: exclude repeated texts from the negatives; needs ``input_ids``.
        process_group: processes whose batches form one, as with ``gather_across_devices=True`` of
            sentence-transformers; usually ``torch.distributed.group.WORLD``, which is None
            until the training arguments have been made. Otherwise each process uses only its own
            candidates. Repeated texts are found on all processes, but for a document equal to an
            anchor of another process.

    Raises:
        ValueError: a temperature that is not positive.
        TypeError: an argument that is not a number, a bool or a process group as documented.

    Source:
        Henderson et al., Efficient Natural Language Response Suggestion for Smart Reply
        (arXiv:1705.00652), section 4.4; van den Oord et al., Representation Learning with
        Contrastive Predictive Coding (arXiv:1807.03748).

    Example:
        >>> class Model(torch.nn.Embedding):
        ...     def forward(self, features):
        ...         return {"sentence_embedding": super().forward(features["input_ids"]).mean(1)}
        >>> loss = InBatchContrastiveLoss(Model(10, 4))
        >>> anchors, positives = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5, 6], [7, 8]])
        >>> loss([{"input_ids": anchors}, {"input_ids": positives}]).backward()
        >>> loss.model.weight.grad.shape
        torch.Size([10, 4])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        symmetric: bool = False,
        normalize: bool = True,
        mask_duplicates: bool = True,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = losses.ContrastiveLoss(
            temperature,
            learn_temperature=learn_temperature,
            symmetric=symmetric,
            process_group=process_group,
        )
        self.normalize = normalize
        self.mask_duplicates = mask_duplicates

    def forward(
        self, sentence_features: Iterable[Features], labels: Tensor | None = None
    ) -> Tensor:
        """Computes the loss of a batch.

        Args:
            sentence_features: the features of each column: anchor, positive, negatives.
            labels: must be None; the trainer passes the column "label" or "score" of the data set.

        Returns:
            One number, float32, or float64 for a model of that.

        Raises:
            ValueError: fewer than two columns, columns of different length, labels, features from
                which texts cannot be compared, embeddings that are not on the CPU, and under DDP a
                learned temperature without a process group.
        """
        columns, name = list(sentence_features), type(self).__name__
        if len(columns) < 2:
            raise ValueError(
                f"{name}: expected two columns or more, anchor and positive, got {len(columns)}"
            )
        if labels is not None:
            raise ValueError(
                f"{name}: labels are not used, but the data set has some; remove their column"
            )
        own, group = self.objective.log_scale, self.objective.process_group
        if own is not None and group is None and no_sync_of(self.model) is not None:
            raise ValueError(
                f"{name}: a learned temperature would become another in each process; pass "
                "process_group=torch.distributed.group.WORLD, or learn_temperature=False"
            )
        masks = masks_of_duplicates(columns, name) if self.mask_duplicates else {}
        embeddings = self._embed_columns(columns)
        _check(name, embeddings)
        if self.normalize:
            embeddings = [F.normalize(x, dim=-1) for x in embeddings]
        loss: Tensor = self.objective(embeddings[0], torch.cat(embeddings[1:]), **masks)
        return loss

    def _embed_columns(self, columns: list[Features]) -> list[Tensor]:
        """Encodes anchors, and all columns of documents in one forward pass where they allow it."""
        together = _embed_columns_of_sentence_transformers()
        if together is None:
            return [self._embed(column) for column in columns]
        embeddings: list[Tensor] = together(self.model, columns)
        return embeddings

    def _embed(self, column: Features) -> Tensor:
        embeddings: Tensor = self.model(column)["sentence_embedding"]
        return embeddings

    def extra_repr(self) -> str:
        return f"normalize={self.normalize}, mask_duplicates={self.mask_duplicates}"

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the options of this loss for the model card."""
        return {
            "temperature": self.objective.temperature,
            "learn_temperature": self.objective.log_scale is not None,
            "symmetric": self.objective.options["symmetric"],
            "normalize": self.normalize,
            "mask_duplicates": self.mask_duplicates,
        }

    @property
    def citation(self) -> str:
        """BibTeX entry of the loss for the model card."""
        return """
@misc{oord2018representation,
    title={Representation Learning with Contrastive Predictive Coding},
    author={Aaron van den Oord and Yazhe Li and Oriol Vinyals},
    year={2018},
    eprint={1807.03748},
    archivePrefix={arXiv},
    primaryClass={cs.LG}
}
"""


def _embed_columns_of_sentence_transformers() -> Callable[..., list[Tensor]] | None:
    """Returns the function by which its own losses encode columns, if the library is in use.

    From 6.2 on it encodes positives and negatives in one forward pass. That is faster, and dropout
    draws other numbers than in one pass for each column.
    """
    if "sentence_transformers" not in sys.modules:
        return None
    try:
        module = importlib.import_module("sentence_transformers.base.losses.merged_forward")
    except ImportError:  # before 6.2
        return None
    found: Callable[..., list[Tensor]] = module.embed_columns
    return found


def _check(op: str, columns: list[Tensor]) -> None:
    device, rows = columns[0].device, [len(x) for x in columns]
    hint = "train with use_cpu=True, or with MultipleNegativesRankingLoss or its cached form"
    check_device(op, "embeddings", device, "contrastive", hint=hint)
    for i, n in enumerate(rows):
        if n != rows[0]:
            raise ValueError(
                f"{op}: columns must have the same length, but column 0, the anchors, has "
                f"{rows[0]} rows, and column {i} has {n}"
            )


class CachedInBatchContrastiveLoss(InBatchContrastiveLoss):
    """Computes `InBatchContrastiveLoss` for batches larger than memory, by mini-batches.

    The loss and the gradients are those of `InBatchContrastiveLoss` for one more forward pass (see
    `tilefold.losses.gradcache.cached_embeddings`); memory holds the activations of one mini-batch
    and the embeddings. With dropout they are those of a forward pass for each mini-batch and
    column, as in ``CachedMultipleNegativesRankingLoss``. Each mini-batch is cut to the longest of
    its texts, so there is less padding. Losses that change the model while they run, such as
    `MatryoshkaLoss` and `AdaptiveLayerLoss`, cannot wrap this one.

    Args:
        model, temperature, learn_temperature, symmetric, normalize, mask_duplicates, process_group:
            as in `InBatchContrastiveLoss`.
        mini_batch_size: number of texts of a column that are encoded at a time.

    Raises:
        ValueError: a temperature that is not positive, a mini-batch without texts.
        TypeError: an argument that is not a number, a bool or a process group as documented.

    Source:
        Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup
        (arXiv:2101.06983).

    Example:
        >>> class Model(torch.nn.Embedding):
        ...     def forward(self, features):
        ...         return {"sentence_embedding": super().forward(features["input_ids"]).mean(1)}
        >>> loss = CachedInBatchContrastiveLoss(Model(10, 4), mini_batch_size=1)
        >>> anchors, positives = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5, 6], [7, 8]])
        >>> loss([{"input_ids": anchors}, {"input_ids": positives}]).backward()
        >>> loss.model.weight.grad.shape
        torch.Size([10, 4])
    """

    # Read by losses of sentence-transformers that change the model, to reject this one.
    uses_gradient_cache = True

    def __init__(
        self,
        model: nn.Module,
        *,
        mini_batch_size: int = 32,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        symmetric: bool = False,
        normalize: bool = True,
        mask_duplicates: bool = True,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            model,
            temperature=temperature,
            learn_temperature=learn_temperature,
            symmetric=symmetric,
            normalize=normalize,
            mask_duplicates=mask_duplicates,
            process_group=process_group,
        )
        name = type(self).__name__
        if not isinstance(mini_batch_size, int):
            kind = type(mini_batch_size).__name__
            raise TypeError(f"{name}: mini_batch_size must be an int, got {kind}")
        if mini_batch_size < 1:
            raise ValueError(f"{name}: mini_batch_size must be at least 1, got {mini_batch_size}")
        self.mini_batch_size = mini_batch_size

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mini_batch_size={self.mini_batch_size}"

    def _embed_columns(self, columns: list[Features]) -> list[Tensor]:
        return [self._embed(column) for column in columns]

    def _embed(self, column: Features) -> Tensor:
        chunks = mini_batches(column, self.mini_batch_size, type(self).__name__)
        return cached_embeddings(self._embed_copy, chunks, no_sync=no_sync_of(self.model))

    def _embed_copy(self, chunk: Features) -> Tensor:
        """Encodes a copy: modules write activations into features, which would keep them alive."""
        return super()._embed(dict(chunk))

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the options of this loss for the model card."""
        return {**super().get_config_dict(), "mini_batch_size": self.mini_batch_size}

    @property
    def calculate_loss(self) -> NoReturn:
        """Rejects `MatryoshkaLoss`, which reads this attribute of losses with a cache.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "CachedInBatchContrastiveLoss: MatryoshkaLoss cannot have this loss inside; use "
            "InBatchContrastiveLoss"
        )

    @property
    def citation(self) -> str:
        """BibTeX entry of the loss for the model card."""
        return """
@misc{gao2021scaling,
    title={Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup},
    author={Luyu Gao and Yunyi Zhang and Jiawei Han and Jamie Callan},
    year={2021},
    eprint={2101.06983},
    archivePrefix={arXiv},
    primaryClass={cs.LG}
}
"""
