"""Reads what a configured policy adds to batches: rewrites of a file, embeddings of a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import TrainingSet
from ..data.rewrites import read_rewrites
from ..distributed.processes import encode_together
from ..models import BiEncoder, find_model
from ..ragged_lists import Integers
from .arguments import RetrieverTrainingArguments


class KeptEmbeddings(NamedTuple):
    """Embeddings of all texts of a training set by one encoder."""

    queries: NDArray[np.float32]  # [n, d]
    documents: NDArray[np.float32]  # [m, d]


@dataclasses.dataclass(frozen=True)
class PolicyInputs:
    """What the arguments of a training name and a policy needs, beside the training set.

    Args:
        rewrites: of each query, from the file `query_rewrites`; None without it.
        teacher: embeddings by `teacher_model`; None without it.
    """

    rewrites: Sequence[Sequence[str]] | None = None
    teacher: KeptEmbeddings | None = None

    def take(self, rows: Integers) -> PolicyInputs:
        """Selects queries, as `TrainingSet.take` does, with all documents."""
        return PolicyInputs(
            None if self.rewrites is None else [self.rewrites[int(row)] for row in rows],
            None if self.teacher is None else self.teacher._replace(queries=self.teacher[0][rows]),
        )


def read_inputs(
    data: TrainingSet, args: RetrieverTrainingArguments, title_format: str
) -> PolicyInputs:
    """Reads the rewrites and computes the embeddings that the arguments name.

    Args:
        data: queries and documents.
        args: names of the file and of the teacher.
        title_format: joins titles and texts for the teacher, as of `BiEncoder`.

    Raises:
        OSError: there is no such file, or no such model.
        ValueError: a file that cannot be used, or without a rewrite of any query of the data.
    """
    rewrites, teacher = None, None
    if args.query_rewrites is not None:
        rewrites = read_rewrites(args.query_rewrites, data.query_ids, data.queries)
        if not any(rewrites):
            raise ValueError(f"query_rewrites: {args.query_rewrites} has no rewrite of any query")
    if args.teacher_model is not None:
        model = BiEncoder.from_pretrained(find_model(args.teacher_model), title_format=title_format)
        teacher = KeptEmbeddings(
            *(
                encode_together(encode, *columns, batch_size=args.encode_batch_size)
                for encode, *columns in (
                    (model.eval().encode_queries, data.queries, data.prompts),
                    (model.eval().encode_documents, data.documents, data.titles),
                )
            )
        )
    return PolicyInputs(rewrites, teacher)


def without_scores(data: TrainingSet) -> TrainingSet:
    """Returns the same data without teacher scores of the file, for another teacher."""
    scores: dict[str, Any] = dict.fromkeys(("positive_scores", "negative_scores"))
    return dataclasses.replace(data, **scores)
