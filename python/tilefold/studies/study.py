"""The shape of every study: frozen settings, a run, a typed result, its summary and its sections.

A study is a package ``studies/<name>/`` with a subclass of `StudySettings`, a frozen dataclass as
result, and one `Study` that names its functions. Functions of a study print nothing and parse
nothing: a command line fills the settings, passes a `Reporter`, and shows the summary.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..files.done_once import digest_of
from .settings import StudySettings

if TYPE_CHECKING:
    from ..report import Section

Settings = TypeVar("Settings", bound=StudySettings)
Result = TypeVar("Result")
Item = TypeVar("Item")
Arrays = Mapping[str, NDArray[Any]]


class StepStore(Protocol):
    """Keeps results of steps, such as `tilefold.files.steps.Steps` in a folder."""

    def once(self, name: str, depends: Any, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """Returns the arrays that `make` returns, or those of an earlier run."""
        ...

    def folder(self, name: str, depends: Any) -> Path:
        """Returns a folder for a step that keeps files of its own, such as a training."""
        ...


class NoStepStore:
    """Keeps nothing: every step is computed, and a run that is stopped starts again.

    Folders are removed with the object.
    """

    def __init__(self) -> None:
        self._root: Path | None = None

    def once(self, name: str, depends: Any, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """Returns the arrays that `make` returns."""
        return {key: np.asarray(array) for key, array in make().items()}

    def folder(self, name: str, depends: Any) -> Path:
        """Returns a temporary folder."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="tilefold-"))
            weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        path = self._root / f"{name.replace(' ', '-')}-{digest_of(depends)}"
        path.mkdir(exist_ok=True)
        return path


class Reporter:
    """Receives reports of what a study has done; this class ignores them.

    Subclasses override what they show.

    Attributes:
        bars: whether functions of other packages may show progress on stderr.
    """

    bars = False

    def started(self, title: str) -> None:
        """Called with the title of the study, before its models are loaded."""

    def fact(self, name: str, text: str) -> None:
        """Called with something that is now known, such as the number of samples."""

    def warn(self, text: str) -> None:
        """Called with a sentence about something that the study leaves out."""

    def track(self, items: Sequence[Item], label: str) -> Iterable[Item]:
        """Returns the items of a long loop; an override may show progress."""
        return items


@dataclass(frozen=True)
class SummaryTable:
    """A table of a result for a terminal.

    Args:
        heading: its title.
        labels: of the rows.
        columns: cells by the name of the column.
        notes: sentences below the table.
    """

    heading: str
    labels: Sequence[str] = ()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Run(Protocol[Settings, Result]):  # type: ignore[misc]
    """The function that runs a study."""

    def __call__(
        self,
        settings: Settings,
        *,
        steps: StepStore | None = None,
        progress: Reporter | None = None,
    ) -> Result:
        """Runs the study.

        Args:
            settings: what is studied, and how.
            steps: keeps results of steps, so that a run that was stopped continues; by default
                nothing is kept.
            progress: receives reports; by default nobody does.
        """
        ...


@dataclass(frozen=True)
class Study(Generic[Settings, Result]):
    """One study.

    Args:
        name: of its command, its package and its file of results.
        purpose: what it finds out, as a sentence without a subject.
        settings: the class of its settings.
        result: the class of its result, a frozen dataclass with ``settings`` and ``version``; with
            ``title`` and ``constants`` where it makes a report.
        run: settings to result.
        summary: result to tables for a terminal.
        sections: result to sections of a report.
    """

    name: str
    purpose: str
    settings: type[Settings]
    result: type[Result]
    run: Run[Settings, Result]
    summary: Callable[[Result], list[SummaryTable]]
    sections: Callable[[Result], list[Section]]
