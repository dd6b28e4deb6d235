"""Fixtures of studies: worlds whose bases are trained in seconds, once for all of them."""

from pathlib import Path

import pytest
from small_bases import shared_folder, use_small_bases


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the models of worlds."""
    return shared_folder(tmp_path_factory)


@pytest.fixture
def small(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains bases with few steps, and keeps them in that folder."""
    use_small_bases(monkeypatch, cache)
