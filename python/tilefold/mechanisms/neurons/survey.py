"""A survey of neurons over many texts: attributions folded into counts, none of them kept."""

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
THRESHOLD = 0.1  # the study's, of BERT
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """How often each neuron is active, and how many are in each text.

    A neuron is active in a text where its attribution exceeds a share of the text's largest over
    all layers and both sub-layers.

    Example:
        >>> rows = np.array([[[4.0, 1.0, 0.0]], [[2.0, 2.0, 2.0]]])  # [texts, layers, neurons]
        >>> survey = Survey.of(WeightAttribution(rows, np.zeros((2, 1, 1))), threshold=0.5)
        >>> survey.active[:, survey.thresholds.index(0.5)].tolist()
        [1, 3]
        >>> survey.shares()["0 intermediate"].tolist()
        [1.0, 0.5, 0.5]
    """

    threshold: float  # of `shares`, `marks`: the study takes 0.1 of BERT, 0.01 of Llama
    thresholds: tuple[float, ...]
    intermediate: Integers  # [thresholds, layers, neurons] texts in which a neuron is active
    output: Integers  # [thresholds, layers, width] the same
    active: Integers  # [texts, thresholds] neurons of either sub-layer
    effective: Floats  # [texts] the number of neurons that count, see `decentralisation`
    gini: Floats  # [texts]
    marks: NDArray[np.uint8]  # [texts, bytes] which are active at `threshold`, as bits

    @classmethod
    def of(
        cls,
        attribution: WeightAttribution,
        *,
        threshold: float = THRESHOLD,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> Survey:
        """What attributions of some texts say.

        Args:
            attribution: of `weight_attribution`.
            threshold: the share of a text's largest above which a neuron is active.
            thresholds: others to count at.
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
        """Surveys of other texts with the same thresholds, one after the other.

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
                for name in ("active", "effective", "gini", "marks")
            ),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it as arrays, for a file; `from_arrays` reads them."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: np.asarray(value) for name, value in fields.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Survey:
        """What `arrays` made."""
        fields = {name: np.array(arrays[name]) for name in cls.__dataclass_fields__}
        fields["thresholds"] = tuple(fields["thresholds"].tolist())  # type: ignore[assignment]
        return cls(**{**fields, "threshold": float(fields["threshold"])})  # type: ignore[arg-type]

    def at(self, threshold: float, *, share: float = 0) -> Integers:
        """Neurons active in more than a share of texts, of each sub-layer as in `shares`.

        Args:
            threshold: above which neurons are active.
            share: 0 for any text.

        Raises:
            ValueError: a threshold that was not surveyed.
        """
        if threshold not in self.thresholds:
            raise ValueError(f"Survey.at: threshold must be of {self.thresholds}, got {threshold}")
        place = self.thresholds.index(threshold)
        least = share * len(self.active)
        both = (self.intermediate[place] > least).sum(1), (self.output[place] > least).sum(1)
        return np.stack(both, axis=1).ravel()

    def shares(self) -> dict[str, Floats]:
        """Of each sub-layer, for each neuron the share of texts in which it is active.

        Sub-layers alternate as in the study: layer 0's intermediate, its output, layer 1's...
        """
        place, texts = self.thresholds.index(self.threshold), max(1, len(self.active))
        found = {}
        for layer in range(self.intermediate.shape[1]):
            found[f"{layer} intermediate"] = self.intermediate[place, layer] / texts
            found[f"{layer} output"] = self.output[place, layer] / texts
        return found

    def overlaps(self, groups: Sequence[Sequence[int]]) -> Floats:
        """Of each group of texts the mean Jaccard index of the neurons of every two of them.

        Args:
            groups: rows of paraphrases, two or more each.

        Returns:
            ``[groups]``: 1 where paraphrases go through the same neurons.
        """
        found = []
        for group in groups:
            bits = self.marks[np.asarray(group)]
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
    """Attributes the embeddings' length to weights, and folds what is found.

    Args:
        encoder: of texts.
        texts: strings; some hundred at a time, as attributions of all are in memory.
        threshold, thresholds: of `Survey.of`.
        **options: of `weight_attribution`.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> survey = survey_neurons(encoder, ["who wrote Hamlet"], steps=4)
        >>> survey.at(0.1).shape  # neurons engaged in each sub-layer
        (12,)
    """
    found = weight_attribution(encoder, texts, **options)
    return Survey.of(found, threshold=threshold, thresholds=thresholds)
