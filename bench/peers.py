"""Packages to compare with, where they are installed."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType


def optional(name: str) -> ModuleType | None:
    """A package, or None; what it warns about while it is imported is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None
