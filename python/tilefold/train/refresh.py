"""Mines hard negatives again at intervals with the model in training (ANCE)."""

from __future__ import annotations

from dataclasses import dataclass

from ..data import TrainingSet, own_documents
from ..data.self_retrieval import Identity
from ..data.text_columns import text_groups
from ..distributed.processes import encode_together
from ..mining import mine
from ..models import BiEncoder
from ..ragged_lists import Lists


@dataclass(frozen=True)
class Refresh:
    """Mines hard negatives with the model in training, at intervals.

    Args:
        every: optimizer steps between two minings; 0 for none after the first step.
        at_start: mine before the first step, too.
        depth: rank of the last passage that negatives are drawn from, positives not counted.
        skip: number of best passages that are left out.
        n_negatives: negatives kept for each query, drawn at random from the remaining passages.
        relative_margin: leave out passages whose score is closer than this share to the positive's.
        batch_size: texts encoded at once.
        seed: of the random draws.
        remove_query: which passages are not mined as they are the query itself, see
            `tilefold.data.own_documents`.

    Source:
        Xiong et al., Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text
        Retrieval (arXiv:2007.00808), here without approximation, and in step with training.
    """

    every: int
    at_start: bool = False
    depth: int = 200
    skip: int = 0
    n_negatives: int = 20
    relative_margin: float | None = None
    batch_size: int = 64
    seed: int = 0
    remove_query: Identity = "text"

    def due(self, step: int) -> bool:
        """Returns whether negatives are mined before this optimizer step."""
        if step == 0:
            return self.at_start
        return self.every > 0 and step % self.every == 0

    def run(self, model: BiEncoder, data: TrainingSet, *, step: int) -> Lists:
        """Mines hard negatives of every query.

        Args:
            model: encodes queries and documents as it is at this step.
            data: queries, documents and known positives.
            step: of the optimizer; the random draws depend on it.

        Returns:
            Rows of documents for each query, hardest first.
        """
        queries, documents = (
            encode_together(encode, *columns, batch_size=self.batch_size)
            for encode, *columns in (
                (model.encode_queries, data.queries, data.prompts),
                (model.encode_documents, data.documents, data.titles),
            )
        )
        mined = mine(
            queries,
            documents,
            data.positives,
            n_negatives=self.n_negatives,
            range_min=self.skip,
            range_max=self.depth,
            relative_margin=self.relative_margin,
            sampling="random",
            groups=text_groups(model.document_texts(data.documents, data.titles)),
            exclude=own_documents(data, self.remove_query),
            seed=self.seed + step,
        )
        negatives: Lists = mined.negatives
        return negatives
