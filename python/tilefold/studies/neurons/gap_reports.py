"""Reports attribution scores that do not add up, once for a study."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from ..study import Reporter


@contextlib.contextmanager
def reported_gaps(progress: Reporter) -> Iterator[None]:
    """Passes the first warning of incomplete attributions to a reporter, and no other.

    Args:
        progress: receives the report.
    """
    from ...mechanisms import IncompleteAttributionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", IncompleteAttributionWarning)
        show, seen = warnings.showwarning, set()

        def pass_on(message: Any, category: Any, *place: Any, **options: Any) -> None:
            if category is not IncompleteAttributionWarning:
                show(message, category, *place, **options)
            elif category not in seen:
                seen.add(category)
                progress.warn(f"{message}")

        warnings.showwarning = pass_on
        yield
