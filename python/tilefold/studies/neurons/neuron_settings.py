"""Settings of the study of neurons."""

from __future__ import annotations

from dataclasses import dataclass

from ..subject_settings import SubjectSettings

_DEFAULT_FACTS = 60


@dataclass(frozen=True, kw_only=True)
class NeuronSettings(SubjectSettings):
    """Settings of `run_neurons`; see `SubjectSettings` for those of models and data.

    Args:
        queries: queries whose neurons are attributed.
        passages: relevant passages whose neurons are attributed.
        steps: points on each path of integrated gradients.
        threshold: share of a text's largest attribution above which a neuron is active (default:
            the preset's, or 0.1).
        facts: facts of a world whose knowledge neurons are found (default: 60).
        knock_out: numbers of neurons of the query encoder that are knocked out.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.
    """

    queries: int = 200
    passages: int = 50
    steps: int = 20
    threshold: float | None = None
    facts: int | None = None
    knock_out: tuple[int, ...] = (1, 4, 16, 64)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._replace("knock_out", tuple(sorted(set(self.knock_out))))
        for name, lowest in (("queries", 1), ("passages", 1), ("steps", 2), ("facts", 2)):
            self._check_min(name, lowest)
        self._check_min("knock_out", 1)
        if self.facts is not None and self.world is None:
            raise ValueError(
                f"{self._named('facts')}: expected None without world, got {self.facts}"
            )
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(
                f"{self._named('threshold')}: expected above 0 and below 1, got {self.threshold}"
            )

    @property
    def active_threshold(self) -> float:
        """The threshold, the preset's where none is set, or that of the survey."""
        from ...mechanisms.neurons.survey import THRESHOLD

        if self.threshold is not None:
            return self.threshold
        return THRESHOLD if self.published is None else self.published.threshold

    @property
    def n_facts(self) -> int:
        """The number of facts, or its default."""
        return self.facts or _DEFAULT_FACTS
