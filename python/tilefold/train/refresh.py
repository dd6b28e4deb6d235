"""Hard negatives mined with the model under training, again and again (ANCE)."""

from __future__ import annotations

from dataclasses import dataclass

from ..data import TrainingSet
from ..data.text_columns import text_groups
from ..distributed.processes import encode_together
from ..mining import mine
from ..models import BiEncoder
from ..ragged_lists import Lists


@dataclass(frozen=True)
class Refresh:
    """When hard negatives are mined, and which.

    Args:
        every: steps between; 0 for never again.
        at_start: before the first step, too.
        depth: from so many of the best passages that are no positives.
        skip: of these, leave out the first.
        n_negatives: kept for each query, drawn from the others.
        relative_margin: leave out what is closer than this share to the positive's score.
        batch_size: texts encoded at once.
        seed: of the draw.

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

    def due(self, step: int) -> bool:
        """Whether to mine before this step."""
        if step == 0:
            return self.at_start
        return self.every > 0 and step % self.every == 0

    def run(self, model: BiEncoder, data: TrainingSet, *, step: int) -> Lists:
        """Negatives of every query, hardest first."""
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
            seed=self.seed + step,
        )
        negatives: Lists = mined.negatives
        return negatives
