"""Fixtures of tests of files: a saved index."""

from pathlib import Path

import pytest
from saved_indexes import filled


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved index of 500 documents."""
    filled().save(tmp_path / "index")
    return tmp_path / "index"
