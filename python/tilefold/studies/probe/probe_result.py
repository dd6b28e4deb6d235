"""Result of the study of probes."""

from __future__ import annotations

from dataclasses import dataclass

from ...version import __version__
from ..paired_comparison import PairedComparison
from .probe_settings import ProbeSettings


@dataclass(frozen=True)
class SampleCounts:
    """Numbers of samples: a query with a relevant passage and hard negatives is one.

    Args:
        fitted: samples that probes are fitted to.
        tested: held-out samples.
        independent: groups of held-out samples whose queries ask for different passages.
        familiar: held-out samples whose relevant passage is also relevant to a fitted sample.
        min_passages: different passages of the held-out sample that has the fewest.
    """

    fitted: int
    tested: int
    independent: int
    familiar: int
    min_passages: int


@dataclass(frozen=True)
class LayerAccuracy:
    """Accuracy of a probe of one layer of one model, on held-out samples.

    Args:
        model: base, retriever or random weights.
        layer: number of the layer; 0 is the output of the embeddings.
        probe: name of the classifier.
        n_candidates: passages that it chooses from.
        control: none, or the name of the control task.
        accuracy, low, high: mean over samples and its 95% bootstrap interval.
        base: accuracy of the base model's probe.
        t_test: p of an unpaired t-test against the base, as published, corrected over layers.
        mcnemar: p of McNemar's test against the base, corrected over layers.
    """

    model: str
    layer: int
    probe: str
    n_candidates: int
    control: str
    accuracy: float
    low: float
    high: float
    base: float
    t_test: float
    mcnemar: float


@dataclass(frozen=True)
class ProbeResult:
    """Result of `run_probe`.

    Args:
        settings: of the run.
        title: names the models and the data.
        samples: how many there are.
        layers: accuracy of every probe of every layer.
        discrimination: retriever against base, averaged over layers; one for each probe and
            number of candidates (claim C1).
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: ProbeSettings
    title: str
    samples: SampleCounts
    layers: tuple[LayerAccuracy, ...]
    discrimination: tuple[PairedComparison, ...]
    constants: dict[str, int | float]
    version: str = __version__
