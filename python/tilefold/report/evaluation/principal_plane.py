"""Projects vectors on their first two principal components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Plane(NamedTuple):
    """Vectors in a plane, and the share of their variance along each axis."""

    at: NDArray[np.float64]  # [n, 2]
    explained: tuple[float, float]


def principal_plane(vectors: NDArray[np.float64]) -> Plane | None:
    """Projects vectors on the two directions in which they vary most.

    Equals `sklearn.decomposition.PCA(2)` up to signs. The entry of a direction with the largest
    magnitude is positive, so that the same vectors give the same map.

    Args:
        vectors: ``[n, dim]``, finite.

    Returns:
        The plane; None where the vectors do not differ. The second axis is 0 where they lie on a
        line.

    Example:
        >>> plane = principal_plane(np.array([[0.0, 0, 0], [3, 4, 0], [6, 8, 0]]))
        >>> np.abs(plane.at[:, 0]).round(6).tolist(), [round(x, 6) for x in plane.explained]
        ([5.0, 0.0, 5.0], [1.0, 0.0])
    """
    centred = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    total = float((centred**2).sum())
    # Rounding of equal vectors leaves less than this, relative to their own lengths.
    if total <= 1e-20 * float((vectors**2).sum()):
        return None
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.sign(directions[np.arange(len(directions)), largest])[:, None]
    at = np.zeros((len(vectors), 2))
    at[:, : len(directions)] = centred @ directions.T
    shares = [float(value) ** 2 / total for value in values[:2]] + [0.0]
    return Plane(at, (shares[0], shares[1]))
