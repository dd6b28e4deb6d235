"""What was found on the two claims of the paper: that retrievers discriminate as their base does
(C1), and that training them spreads knowledge over more neurons (C2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...evaluate import Interval, bootstrap, holm, paired_test
from ...mechanisms.neurons.survey import Survey
from ...mechanisms.probing.sweep import Probed

Row = dict[str, Any]


def by_group(values: NDArray[Any], groups: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Means of groups, and the values of what is in none: texts that are alike count as one.

    >>> by_group(np.array([1.0, 3.0, 7.0]), [[0, 1]]).tolist()
    [2.0, 7.0]
    """
    array = np.asarray(values, np.float64)
    alone = np.setdiff1d(np.arange(len(array)), [row for group in groups for row in group])
    return np.concatenate([[array[list(group)].mean() for group in groups], array[alone]])


def discrimination(
    results: Sequence[Probed], base: Sequence[Probed], groups: Sequence[Sequence[int]] = ()
) -> list[Row]:
    """Of every probe, how much more a model's layers discriminate than the base's.

    The samples that a layer has right are averaged over layers and groups before they are compared,
    so that the interval is over queries. p is of a paired randomisation test, corrected over the
    rows (Holm).

    Args:
        results: of a model, without controls.
        base: of its base, for the same samples.
        groups: rows of samples of one query.

    Returns:
        For each probe and number of passages "base", "model" and "difference" as mean and interval,
        "n" independent samples, and "p".
    """
    rows = []
    for probe, n in dict.fromkeys((r.probe, r.n_candidates) for r in results):
        both = [
            np.mean([r.correct for r in some if (r.probe, r.n_candidates) == (probe, n)], axis=0)
            for some in (results, base)
        ]
        model, other = (by_group(values, groups) for values in both)
        rows.append({"probe": probe, "n_candidates": n, **_difference(model, other)})
    return _corrected(rows)


def spread(
    base: Survey,
    model: Survey,
    groups: Sequence[Sequence[int]] = (),
    *,
    alike: str = "paraphrases",
) -> list[Row]:
    """How much more of a model's neurons texts go through than of the base's.

    Args:
        base, model: surveys of the same texts.
        groups: rows of paraphrases: they count as one text, and how much their neurons overlap is
            found, too.
        alike: what to call texts of a group.

    Returns:
        A row for the active neurons above each threshold, their effective number, the Gini index
        and the overlap, with what `discrimination` has of each; NaN where nothing was measured.

    Raises:
        ValueError: surveys of other texts or thresholds.
    """
    if base.active.shape != model.active.shape or base.thresholds != model.thresholds:
        raise ValueError("spread: expected surveys of the same texts with the same thresholds")
    found: dict[str, list[NDArray[Any]]] = {}
    for place, threshold in enumerate(base.thresholds):
        found[f"active neurons, above {threshold:g}"] = [s.active[:, place] for s in (model, base)]
    found["effective number of neurons"] = [model.effective, base.effective]
    found["Gini index"] = [model.gini, base.gini]
    found = {name: [by_group(v, groups) for v in values] for name, values in found.items()}
    if groups:
        found[f"overlap of {alike}"] = [s.overlaps(groups) for s in (model, base)]
    rows = [{"name": name, **_difference(*values)} for name, values in found.items()]
    return _corrected(rows)


def engaged(base: Survey, model: Survey) -> list[Row]:
    """Of each sub-layer and threshold how many neurons any text engages, and how many most do.

    The latter are what the paper calls centralised: neurons that a wide range of texts engages.

    Args:
        base, model: surveys of the same texts.

    Returns:
        For each threshold and sub-layer the counts "base" and "model", and those of neurons that
        more than half of the texts engage, "base_half" and "model_half".
    """
    return [
        {
            "sub_layer": name,
            "threshold": threshold,
            **{
                f"{side}{suffix}": int(survey.at(threshold, share=share)[place])
                for side, survey in (("base", base), ("model", model))
                for suffix, share in (("", 0.0), ("_half", 0.5))
            },
        }
        for threshold in base.thresholds
        for place, name in enumerate(base.shares())
    ]


def mean_of_runs(differences: Sequence[float]) -> Interval:
    """The mean of what several seeds found, and its 95% interval by Student's t.

    NaN for the interval of a single run.

    >>> [round(value, 3) for value in mean_of_runs([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half)


def _difference(model: NDArray[Any], base: NDArray[Any]) -> Row:
    values = np.asarray(model, np.float64), np.asarray(base, np.float64)
    off = values[0] - values[1]
    test = paired_test(*values)
    return {
        "model": _interval(values[0]),
        "base": _interval(values[1]),
        "difference": _interval(off),
        "n": test.n,
        "p": test.p_value,
    }


def _interval(values: NDArray[np.float64]) -> list[float]:
    return list(bootstrap(values))


def _corrected(rows: list[Row]) -> list[Row]:
    known = [row for row in rows if row["p"] == row["p"]]  # NaN where nothing could be compared
    for row, p in zip(known, holm([row["p"] for row in known]), strict=True):
        row["p"] = float(p)
    return rows
