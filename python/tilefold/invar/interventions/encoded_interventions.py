"""Ranks and scores documents under every intervention, over one space of document ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...integers import as_integer
from ...ragged_lists import Lists
from .chunk_search import listed_scores, search_chunks, search_listed
from .intervention_product import Interventions
from .lost_gold import Flags, lost_answers, lost_documents, warn_of_lost
from .probability_variance import EncodedView, probability_variances

_OP = "EncodedInterventions"


class EncodesTexts(Protocol):
    """Encodes queries and documents, as `tilefold.models.BiEncoder` does."""

    # Only with *more, too, do type checkers accept methods that name their options.
    def encode_queries(
        self, texts: Sequence[str], prompts: Sequence[str] | None = None, *more: Any, **options: Any
    ) -> NDArray[np.float32]:
        """Returns an embedding of each query."""
        ...

    def encode_documents(
        self, texts: Sequence[str], titles: Sequence[str] | None = None, *more: Any, **options: Any
    ) -> NDArray[np.float32]:
        """Returns an embedding of each document."""
        ...


class InterventionRankings(NamedTuple):
    """Rankings of n queries under S interventions; ids are those of documents in all of them."""

    names: list[str]  # S
    scores: NDArray[np.float32]  # [S, n, depth], -inf where there is no document
    ids: NDArray[np.int64]  # [S, n, depth], -1 where there is none
    lost: Flags  # [S, n]: a relevant document that the same wording found without intervention


class EncodedInterventions:
    """Queries in every wording and documents in every window, each encoded once.

    A document has the score of its best chunk, and each chunk the title of its document.

    Args:
        model: the retriever.
        interventions: of the queries.
        documents: texts.
        titles: of the documents; by default none.
        prompts: of the queries, the same in every wording; by default none.
        **options: of the model's methods, such as batch_size and progress.

    Raises:
        ValueError: not as many titles as documents, or prompts as queries; a window that is smaller
            than its template.

    Example:
        >>> from tilefold.invar import Window
        >>> from tilefold.models import BiEncoder, minilm
        >>> product = Interventions(["a cat?"], [["any cats?"]], [None, Window(2)])
        >>> model = BiEncoder(minilm())
        >>> encoded = EncodedInterventions(
        ...     model, product, ["bills are due", "cats sleep a lot"], progress=False
        ... )
        >>> encoded.rankings(depth=2).ids[:, 0].tolist()
        [[1, 0], [1, 0], [1, 0], [1, 0]]
    """

    def __init__(
        self,
        model: EncodesTexts,
        interventions: Interventions,
        documents: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        prompts: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        for name, column, others in (
            ("titles", titles, documents),
            ("prompts", prompts, interventions.wordings[0]),
        ):
            if column is not None and len(column) != len(others):
                raise ValueError(f"{_OP}: expected {len(others)} {name}, got {len(column)}")
        self.interventions = interventions
        self.documents = documents
        self.titles = titles
        self._queries = [
            model.encode_queries(texts, prompts, **options) for texts in interventions.wordings
        ]
        self._windows = []
        for window in interventions.windows:
            texts, owners = documents, np.arange(len(documents))
            if window is not None:
                in_template = window.template is not None and "{title}" in window.template
                texts, owners = window.chunks(documents, titles if in_template else None)
            own = None if titles is None else [titles[row] for row in owners.tolist()]
            self._windows.append((model.encode_documents(texts, own, **options), owners))

    def rankings(
        self,
        *,
        depth: int,
        candidates: Any = None,
        positives: Lists | None = None,
        answers: Sequence[Sequence[str]] | None = None,
    ) -> InterventionRankings:
        """Ranks the documents of every query under every intervention.

        Args:
            depth: documents of a ranking; interventions with a smaller k have no more than k.
            candidates: ``[S, n, c]`` int64, the documents that are ranked in each intervention, -1
                for none, such as the first ones of a coarse encoder's `rankings`; by default all.
                A document that is listed twice is ranked once.
            positives: relevant documents of each query. Then a query is lost where its wording
                finds one in the first window and with the first k, and none in an intervention; a
                warning for each such intervention has their number.
            answers: accepted answers of each query. Then a warning for each window has the number
                of queries whose answer it cuts off in every relevant document.

        Raises:
            ValueError: depth below 1, answers without positives, or not as many as queries;
                candidates of another shape, or an id that is no document's.
        """
        depth = as_integer(depth, f"{_OP}.rankings", "depth", at_least=1)
        shape = len(self.interventions), len(self._queries[0]), depth
        scores, ids = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
        if candidates is not None:
            candidates = self._checked(candidates, "rankings", of_interventions=True)
        found: dict[tuple[int, int], Any] = {}
        for place, each in enumerate(self.interventions):
            key = each.wording, self.interventions.windows.index(each.window)
            pair = self._queries[key[0]], *self._windows[key[1]]
            if candidates is not None:
                own = search_listed(*pair, candidates[place], depth)
            else:
                if key not in found:
                    found[key] = search_chunks(*pair, depth)
                own = found[key]
            k = depth if each.k is None else min(each.k, depth)
            scores[place, :, :k], ids[place, :, :k] = (part[:, :k] for part in own)
        lost = self._lost(ids, positives, answers)
        return InterventionRankings([each.name for each in self.interventions], scores, ids, lost)

    def candidate_scores(self, candidates: Any) -> NDArray[np.float32]:
        """Scores the same candidates of each query under every intervention.

        With a k, an intervention keeps the first k candidates of a query.

        Args:
            candidates: ``[n, c]`` int64 document ids, best first, -1 for none.

        Returns:
            ``[S, n, c]``, -inf where there is no candidate: what `view_probabilities` takes.

        Raises:
            ValueError: another shape, or an id that is no document's.
        """
        listed = self._checked(candidates, "candidate_scores")
        found: dict[tuple[int, int], NDArray[np.float32]] = {}
        scores = np.full((len(self.interventions), *listed.shape), -np.inf, np.float32)
        for place, each in enumerate(self.interventions):
            key = each.wording, self.interventions.windows.index(each.window)
            if key not in found:
                pair = self._queries[key[0]], *self._windows[key[1]]
                found[key] = listed_scores(*pair, listed)
            scores[place, :, : each.k] = found[key][:, : each.k]
        return scores

    def probability_variances(
        self, temperature: float, selections: Sequence[Sequence[int]] | None = None
    ) -> NDArray[np.float64]:
        """Computes how much the probabilities of documents vary over interventions.

        Equals ``ranking_patterns(view_probabilities(scores, temperature), 1).uncertainty`` of the
        scores of all documents, without forming their matrix: memory depends neither on the number
        of documents nor of queries.

        Args:
            temperature: scores are divided by it.
            selections: places of the interventions that each result is over, such as those of
                wordings alone; by default one result over all interventions.

        Returns:
            float64 ``[len(selections), n]``: variance over interventions, that of a population,
            summed over documents; 0 where all interventions lead to the same distribution.

        Raises:
            ValueError: a temperature that is not above 0; a selection without a place, or with one
                that is no intervention's; a k, as it leaves most documents without a probability.

        Example:
            >>> from tilefold.models import BiEncoder, minilm
            >>> product = Interventions(["a cat?", "cats"], [["cat?"], ["cats"]])
            >>> encoded = EncodedInterventions(
            ...     BiEncoder(minilm()), product, ["bills are due", "cats sleep"], progress=False
            ... )
            >>> (encoded.probability_variances(0.05) > 0).tolist()
            [[True, False]]
        """
        op, total = f"{_OP}.probability_variances", len(self.interventions)
        chosen = [range(total)] if selections is None else selections
        if not 0 < temperature < np.inf:
            raise ValueError(f"{op}: temperature must be above 0, got {temperature}")
        for places in chosen:
            if not len(places) or not all(0 <= place < total for place in places):
                raise ValueError(
                    f"{op}: selections must have one or more places, 0 to {total - 1}, got "
                    f"{list(places)}"
                )
        if any(k is not None for k in self.interventions.ks):
            raise ValueError(
                f"{op}: probabilities are over all documents, but interventions have ks "
                f"{self.interventions.ks}; make them without ks"
            )
        views = [
            EncodedView(queries, *window) for queries in self._queries for window in self._windows
        ]
        return probability_variances(views, float(temperature), chosen)

    def _checked(
        self, candidates: Any, method: str, *, of_interventions: bool = False
    ) -> NDArray[np.int64]:
        listed = np.asarray(candidates)
        n, m = len(self._queries[0]), len(self.documents)
        wanted = (len(self.interventions), n) if of_interventions else (n,)
        if listed.dtype.kind not in "iu" or listed.shape[:-1] != wanted:
            shape = ", ".join(map(str, (*wanted, "c")))
            raise ValueError(
                f"{_OP}.{method}: candidates must be integers [{shape}], got {listed.dtype} "
                f"{listed.shape}"
            )
        if listed.size and not (listed.min() >= -1 and listed.max() < m):
            raise ValueError(f"{_OP}.{method}: candidates must be -1 to {m - 1}")
        return listed.astype(np.int64, copy=False)

    def _lost(
        self,
        ids: NDArray[np.int64],
        positives: Lists | None,
        answers: Sequence[Sequence[str]] | None,
    ) -> Flags:
        """Returns which queries each intervention loses, and warns of them."""
        lost = np.zeros(ids.shape[:2], np.bool_)
        op = f"{_OP}.rankings"
        if positives is None:
            if answers is not None:
                raise ValueError(f"{op}: answers need positives")
            return lost
        for place, each in enumerate(self.interventions):
            lost[place] = lost_documents(
                ids[self.interventions.unchanged(place)], ids[place], positives
            )
            warn_of_lost(op, f"every relevant document under {each.name!r}", lost[place], 3)
        for window in self.interventions.windows if answers is not None else ():
            if window is not None:
                in_template = window.template is not None and "{title}" in window.template
                titles = self.titles if in_template else None
                cut = lost_answers(window, self.documents, positives, answers or (), titles=titles)
                warn_of_lost(op, f"their answer in {window.name}", cut, 3)
        return lost
