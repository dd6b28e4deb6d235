"""Counts active neurons over many texts, without keeping attribution scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models import Encoder
from .attribution import WeightAttribution, weight_attribution
from .decentralisation import active_counts, decentralisation

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
THRESHOLD = 0.1  # the study's, for BERT
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """Counts of active neurons: by neuron over texts, and by text over neurons.

    A neuron is active in a text if its score exceeds a share of the text's maximum over all layers
    and both sub-layers.

    Example:
        >>> rows = np.array([[[4.0, 1.0, 0.0]], [[2.0, 2.0, 2.0]]])  # [texts, layers, neurons]
        >>> nothing = np.zeros((2, 1, 2))
        >>> survey = Survey.of(WeightAttribution(rows, nothing, nothing), threshold=0.5)
        >>> survey.active[:, survey.thresholds.index(0.5)].tolist()
        [1, 3]
        >>> survey.shares()["0 intermediate"].tolist()
        [1.0, 0.5, 0.5]
    """

    threshold: float  # of `shares`, `active_bits`: in the study 0.1 for BERT, 0.01 for Llama
    thresholds: tuple[float, ...]
    intermediate: Integers  # [thresholds, layers, neurons] texts in which a neuron is active
    output: Integers  # [thresholds, layers, width] the same
    active: Integers  # [texts, thresholds] neurons of either sub-layer
    effective: Floats  # [texts] effective number of neurons, see `decentralisation`
    gini: Floats  # [texts]
    active_bits: NDArray[np.uint8]  # [texts, bytes] neurons active at `threshold`, as bits

    @classmethod
    def of(
        cls,
        attribution: WeightAttribution,
        *,
        threshold: float = THRESHOLD,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> Survey:
        """Counts active neurons in the attribution scores of some texts.

        Args:
            attribution: of `weight_attribution`.
            threshold: share of a text's maximum above which a neuron is active.
            thresholds: other shares to count at.
        """
        every = tuple(sorted({threshold, *thresholds}))
        relative = attribution.relative()
        both = relative.flat()
        spread = decentralisation(both, threshold=threshold)
        return cls(
            threshold,
            every,
            active_counts(relative.intermediate, every),
            active_counts(relative.output, every),
            np.stack([(both > t).sum(1) for t in every], axis=1),
            spread.effective,
            spread.gini,
            np.packbits(both > threshold, axis=1),
        )

    @classmethod
    def merged(cls, parts: Iterable[Survey]) -> Survey:
        """Concatenates surveys of several sets of texts with the same thresholds.

        Raises:
            ValueError: no part, other thresholds, models of other shapes.
        """
        found = list(parts)
        shapes = {(p.threshold, p.thresholds, p.intermediate.shape, p.output.shape) for p in found}
        if len(shapes) != 1:
            raise ValueError("Survey.merged: expected parts of one model with the same thresholds")
        return cls(
            found[0].threshold,
            found[0].thresholds,
            np.sum([p.intermediate for p in found], axis=0),
            np.sum([p.output for p in found], axis=0),
            *(
                np.concatenate([getattr(p, name) for p in found])
                for name in ("active", "effective", "gini", "active_bits")
            ),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns all fields as arrays, for a file; `from_arrays` reads them."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: np.asarray(value) for name, value in fields.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Survey:
        """Builds a survey from the arrays of `arrays`."""
        fields = {name: np.array(arrays[name]) for name in cls.__dataclass_fields__}
        fields["thresholds"] = tuple(fields["thresholds"].tolist())  # type: ignore[assignment]
        return cls(**{**fields, "threshold": float(fields["threshold"])})  # type: ignore[arg-type]

    def at(self, threshold: float, *, share: float = 0) -> Integers:
        """Counts neurons active in more than a share of texts, for each sub-layer as in `shares`.

        Args:
            threshold: share of a text's maximum above which neurons are active.
            share: 0 for any text.

        Raises:
            ValueError: a threshold that was not surveyed.
        """
        if threshold not in self.thresholds:
            raise ValueError(f"Survey.at: threshold must be of {self.thresholds}, got {threshold}")
        place = self.thresholds.index(threshold)
        texts = share * len(self.active)
        both = (self.intermediate[place] > texts).sum(1), (self.output[place] > texts).sum(1)
        return np.stack(both, axis=1).ravel()

    def shares(self) -> dict[str, Floats]:
        """Returns for each neuron of each sub-layer the share of texts in which it is active.

        Sub-layers alternate as in the study: layer 0's intermediate, its output, layer 1's...
        """
        place, texts = self.thresholds.index(self.threshold), max(1, len(self.active))
        found = {}
        for layer in range(self.intermediate.shape[1]):
            found[f"{layer} intermediate"] = self.intermediate[place, layer] / texts
            found[f"{layer} output"] = self.output[place, layer] / texts
        return found

    def overlaps(self, groups: Sequence[Sequence[int]]) -> Floats:
        """Computes for each group of texts the mean Jaccard index of the neurons of every two.

        Args:
            groups: rows of paraphrases, two or more each.

        Returns:
            ``[groups]``: 1 where paraphrases have the same active neurons.
        """
        found = []
        for group in groups:
            bits = self.active_bits[np.asarray(group)]
            one, other = np.triu_indices(len(bits), 1)
            shared = np.bitwise_count(bits[one] & bits[other]).sum(1, dtype=np.int64)
            either = np.bitwise_count(bits[one] | bits[other]).sum(1, dtype=np.int64)
            found.append(np.mean(shared / np.maximum(either, 1)))
        return np.array(found)


def survey_neurons(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    thresholds: Sequence[float] = THRESHOLDS,
    **options: Any,
) -> Survey:
    """Computes weight attribution of the embeddings' length, and counts active neurons.

    Args:
        encoder: of texts.
        texts: strings; a few hundred at a time, as the scores of all are in memory.
        threshold, thresholds: of `Survey.of`.
        **options: of `weight_attribution`.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> survey = survey_neurons(encoder, ["who wrote Hamlet"])
        >>> survey.at(0.1).shape  # neurons engaged in each sub-layer
        (12,)
    """
    found = weight_attribution(encoder, texts, **options)
    return Survey.of(found, threshold=threshold, thresholds=thresholds)
