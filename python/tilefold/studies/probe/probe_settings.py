"""Settings of the study of probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..subject_settings import SubjectSettings

ProbeName = Literal["concatenation", "bilinear", "interaction", "dot product"]
Mode = Literal["query", "passage", "paired"]
_MIN_CANDIDATES, _MAX_CANDIDATES = 2, 5  # a relevant passage, and one to four hard negatives


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(SubjectSettings):
    """Settings of `run_probe`; see `SubjectSettings` for those of models and data.

    Args:
        mode: encoder of both texts, or paired for the encoder of each.
        probes: classifiers that are fitted to each layer.
        candidates: passages that a probe chooses from, 2 to 5; several numbers are compared.
        epochs: passes over the samples in fitting a probe.
        max_samples: at most as many queries are used.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.

    Example:
        >>> ProbeSettings(world="tiny", candidates=[3, 2, 3]).candidates
        (2, 3)
    """

    mode: Mode = "paired"
    probes: tuple[ProbeName, ...] = get_args(ProbeName)
    candidates: tuple[int, ...] = (2, 3, 4, 5)
    epochs: int = 30
    max_samples: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._replace("probes", tuple(dict.fromkeys(self.probes)))
        self._replace("candidates", tuple(sorted(set(self.candidates))))
        for name in ("probes", "candidates"):
            if not getattr(self, name):
                raise ValueError(f"{self._named(name)}: expected one or more, got none")
        for n in self.candidates:
            if not _MIN_CANDIDATES <= n <= _MAX_CANDIDATES:
                bounds = f"{_MIN_CANDIDATES} to {_MAX_CANDIDATES}"
                raise ValueError(f"{self._named('candidates')}: expected {bounds}, got {n}")
        self._check_min("epochs", 1)
        self._check_min("max_samples", 1)
