"""Settings of the study of patching."""

from __future__ import annotations

from dataclasses import dataclass

from ..subject_settings import SubjectSettings


@dataclass(frozen=True, kw_only=True)
class PatchingSettings(SubjectSettings):
    """Settings of `run_patching`.

    Args:
        pairs: maximum number of pairs of passages for each axiom.
        by_token: also patch the state of each token behind each layer, which takes several times
            as long.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or settings do not go together.
    """

    pairs: int = 50
    by_token: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_min("pairs", 2)
