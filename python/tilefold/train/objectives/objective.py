"""Defines the protocol between objectives and training steps, and its shared implementation."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ...models import BiEncoder
from ..batches import Batch

Tokens = Mapping[str, Tensor]


class ObjectiveLoss(NamedTuple):
    """A loss, and its terms for logs."""

    value: Tensor  # a number, with a graph
    terms: dict[str, Tensor]  # numbers without a graph; weights of terms are among them


class Objective(Protocol):
    """The interface that `train_step` needs of a training objective, an `nn.Module`.

    A step asks for the tokens of a batch, calls the objective to encode them, and hands the
    embeddings back for the loss. These are separate because DDP counts calls of the module (one for
    all texts), and because with gradient caching the texts are encoded chunk by chunk while the
    loss sees the whole batch.

    Tokens and embeddings are named by side, such as "queries" and "documents". The name of a view
    is that of the side that encodes it and a number: "queries/1", "documents/1". Chunks are of
    queries or of documents, so a side is one or the other.
    """

    def tokenize(
        self, batch: Batch, chunk_sizes: tuple[int, int] | None = None
    ) -> dict[str, list[Tokens]]:
        """Tokenizes and pads all sides, in chunks of so many queries and documents."""

    def __call__(self, tokens: Mapping[str, Tokens]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Encodes sides; returns embeddings ``[rows, dim]`` by side, and learned loss parameters.

        DDP exchanges the gradients of parameters that it finds behind the outputs of this call.
        """

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the loss of a batch from the embeddings of all its sides."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yields all parameters, as `nn.Module` does."""


class BiEncoderObjective(nn.Module, abc.ABC):
    """Tokenizes and encodes the sides of a batch: all of `Objective` but the loss.

    "queries" and its views are encoded by the query encoder, "documents" and its views by the
    document encoder.

    Args:
        model: the bi-encoder to train.

    Raises:
        TypeError: another kind of model.
    """

    def __init__(self, model: BiEncoder) -> None:
        super().__init__()
        check_kind(self, "model", model, BiEncoder)
        self.model = model

    def sides(self, batch: Batch) -> dict[str, Sequence[str]]:
        """Returns queries with their prompts and documents with their titles."""
        return {
            "queries": self.model.query_texts(batch.queries, batch.prompts),
            "documents": self.model.document_texts(batch.documents, batch.titles),
        }

    def tokenize(
        self, batch: Batch, chunk_sizes: tuple[int, int] | None = None
    ) -> dict[str, list[Tokens]]:
        """Tokenizes all sides and pads them, each chunk to its own longest text.

        Args:
            batch: the texts.
            chunk_sizes: queries and documents in a chunk; None for one chunk of each side.
        """
        sizes = dict(zip(("queries", "documents"), chunk_sizes or (None, None), strict=True))
        return {
            side: self._padded(side, texts, sizes[_tower(side)])
            for side, texts in self.sides(batch).items()
        }

    def forward(self, tokens: Mapping[str, Tokens]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Encodes the given sides; see `Objective`."""
        embeddings = {side: self._encoder(side)(given) for side, given in tokens.items()}
        return embeddings, [1 * parameter for parameter in self.loss_parameters()]

    @abc.abstractmethod
    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the loss of a batch from the embeddings of all its sides."""

    def loss_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of the loss; none unless an objective has some."""
        return []

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Keeps fewer activations, as `transformers.Trainer` requests it."""
        chosen = {name: value for name, value in options.items() if value}
        if chosen and chosen != {"every_n_layers": 1}:
            raise ValueError(f"Objective: every layer is checkpointed, in memory; got {chosen}")
        self.model.checkpoint_activations()

    # The name before transformers 5.
    gradient_checkpointing_enable = activation_checkpointing_enable

    def _padded(self, side: str, texts: Sequence[str], size: int | None) -> list[Tokens]:
        encoder = self._encoder(side)
        tokens = encoder.tokenize(texts)
        step = size or len(tokens)
        return [encoder.pad(tokens[i : i + step]) for i in range(0, len(tokens), step)]

    def _encoder(self, side: str) -> Any:
        queries = _tower(side) == "queries"
        return self.model.query_encoder if queries else self.model.document_encoder


def check_kind(objective: nn.Module, name: str, value: Any, expected: type) -> None:
    """Raises TypeError, naming objective and argument, for a value of another kind."""
    if not isinstance(value, expected):
        raise TypeError(
            f"{type(objective).__name__}: {name} must be of type {expected.__name__}, "
            f"got {type(value).__name__}"
        )


def widened(embeddings: Tensor) -> Tensor:
    """Returns embeddings in the precision of losses: float64 as they are, others in float32."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def query_share(n: int, group: torch.distributed.ProcessGroup | None) -> float:
    """Returns a weight of a mean loss by which the mean over processes is that over all queries.

    Args:
        n: number of queries of this process.
        group: processes that the batch is spread over; None for this one alone.
    """
    if group is None:
        return 1.0
    total = torch.tensor(n)
    torch.distributed.all_reduce(total, group=group)
    return n * torch.distributed.get_world_size(group) / int(total)


def _tower(side: str) -> str:
    return side.partition("/")[0]
