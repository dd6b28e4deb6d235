"""Compares installed packages with the extras of tilefold."""

from __future__ import annotations

import importlib.metadata
import re

from .diagnosis import Extra
from .machine import package_version

# Extras for developers, and the one that has all others.
_UNLISTED_EXTRAS = {"all", "test", "lint"}
# A line of metadata: package, minimum version if it names one, extra.
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*?(?:>=\s*([\w.]+))?\s*;.*extra == [\"']([\w-]+)")


def installed_extras() -> list[Extra]:
    """Returns the extras of tilefold's metadata, and which of their packages are installed."""
    try:
        requirements = importlib.metadata.requires("tilefold") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # run from a source tree that was never installed
    wanted: dict[str, dict[str, str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match[3] not in _UNLISTED_EXTRAS:
            wanted.setdefault(match[3], {})[match[1]] = match[2] or "0"
    return [_installed_extra(name, packages) for name, packages in wanted.items()]


def _installed_extra(name: str, min_versions: dict[str, str]) -> Extra:
    versions = {package: package_version(package) for package in min_versions}
    too_old = [
        f"{package} {version} is older than {min_versions[package]}"
        for package, version in versions.items()
        if version and _release(version) < _release(min_versions[package])
    ]
    return Extra(name, versions, too_old)


def _release(version: str) -> tuple[int, ...]:
    """Returns the numbers that a version begins with: 2.13.0+cpu -> (2, 13, 0)."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, numbers.group().split("."))) if numbers else ()
