"""Trains a retriever on the scores of a preference signal: by distillation or by likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from ...losses import alignment_loss, marginal_likelihood_loss
from ...models import BiEncoder
from ..batches import Batch, TeacherScores
from .objective import BiEncoderObjective, ObjectiveLoss, query_share, widened

PreferenceForm = Literal["distillation", "marginal likelihood"]
Unscored = Literal["error", "leave out"]


class PreferenceObjective(BiEncoderObjective):
    """A bi-encoder in training that follows a language model's scores of passages.

    With R the retriever's softmax over the passages listed for a query, at `temperature`, and s_d
    the scores of a preference signal (`tilefold.aar`), kept as teacher scores of the training set,
    the loss is the mean over queries of

    - "distillation": ``KL(softmax(s / signal_temperature) || R)``. With scores of `FusedAttention`
      it is ADist, of `PerplexityDistillation` PDist, of `LeaveOneOut` LOOP;
    - "marginal likelihood": ``-log sum_d R_d exp(s_d / signal_temperature)``, for scores that are
      log-likelihoods of the answer, as those of `AnswerLikelihood`: EMDR2.

    Passages of other queries take no part, as the signal has not scored them;
    `WeightedObjective` adds the contrastive loss. To maximize the summed likelihood of several
    positives against all other passages of a batch (arXiv:2504.05220), use `ContrastiveObjective`
    with ``ContrastiveLoss(mode="sum")``.

    Args:
        model: the bi-encoder to train.
        form: "distillation" or "marginal likelihood".
        temperature: the retriever's scores are divided by it.
        signal_temperature: the signal's scores are divided by it.
        unscored: what happens to passages of a query that the signal has not scored (NaN), such as
            a human positive below the passages that it saw: "error", or "leave out". A query with
            no scored passage then has loss 0.
        process_group: processes that the batch is spread over; their mean loss is then that of one
            process with all queries, even if they have different numbers of queries.

    Raises:
        TypeError: another kind of model.
        ValueError: an unknown form or value of unscored, a temperature that is not positive.

    Source:
        Izacard et al., Atlas (arXiv:2208.03299), section 2.2.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> objective = PreferenceObjective(
        ...     BiEncoder(minilm()), form="marginal likelihood", temperature=0.05
        ... )
    """

    def __init__(
        self,
        model: BiEncoder,
        *,
        form: PreferenceForm = "distillation",
        temperature: float = 1.0,
        signal_temperature: float = 1.0,
        unscored: Unscored = "error",
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__(model)
        options = {"form": (form, PreferenceForm), "unscored": (unscored, Unscored)}
        for name, (value, known) in options.items():
            if value not in get_args(known):
                choices = " or ".join(map(repr, get_args(known)))
                raise ValueError(f"PreferenceObjective: {name} must be {choices}, got {value!r}")
        temperatures = {"temperature": temperature, "signal_temperature": signal_temperature}
        for name, number in temperatures.items():
            if not 0 < number < torch.inf:
                raise ValueError(f"PreferenceObjective: {name} must be positive, got {number}")
        self.form: PreferenceForm = form
        self.temperature = temperature
        self.signal_temperature = signal_temperature
        self.unscored: Unscored = unscored
        self.process_group = process_group

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the loss on the passages that the signal has scored.

        Args:
            batch: with scores of the signal as its teacher scores.
            embeddings: "queries" ``[n, dim]`` and "documents" ``[m, dim]``.

        Raises:
            ValueError: the batch has no scores; a listed passage has none (NaN) and unscored is
                "error".
        """
        offsets, indices, scores = self._scored(batch)
        queries, documents = (widened(embeddings[side]) for side in ("queries", "documents"))
        if self.form == "distillation":
            loss = alignment_loss(
                (queries, documents),
                scores,
                candidates=(offsets, indices),
                temperature=self.temperature,
                teacher_temperature=self.signal_temperature,
            )
        else:
            loss = marginal_likelihood_loss(
                queries,
                documents,
                scores / self.signal_temperature,
                (offsets, indices),
                temperature=self.temperature,
            )
        return ObjectiveLoss(loss * query_share(len(batch.queries), self.process_group), {})

    def _scored(self, batch: Batch) -> TeacherScores:
        """Returns the scores of a batch without the passages that have none."""
        if batch.teacher is None:
            raise ValueError(
                "PreferenceObjective: the batch has no scores of a signal; its training set needs "
                "positive_scores or negative_scores"
            )
        offsets, indices, scores = batch.teacher
        known = ~torch.isnan(scores)
        if bool(known.all()):
            return batch.teacher
        if self.unscored == "error":
            place = int((~known).int().argmax())
            query = int(torch.searchsorted(offsets, place, right=True)) - 1
            raise ValueError(
                f"PreferenceObjective: a passage of query {query} of the batch has no score: "
                f"{batch.documents[int(indices[place])]!r:.60}; unscored='leave out' trains on the "
                "others"
            )
        kept = torch.nn.functional.pad(known.cumsum(0), (1, 0))
        return TeacherScores(kept[offsets], indices[known], scores[known])
