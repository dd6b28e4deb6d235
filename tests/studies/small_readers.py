"""Readers of a world that are trained in seconds, for tests of studies."""

import functools
from pathlib import Path

import pytest

from tilefold.world import world_models, world_readers, world_retrievers


def use_small_readers(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keeps models in a folder; readers have one layer, and they and DPR two steps of training."""
    patch.setenv("TILEFOLD_CACHE", str(folder))
    small = {
        name: reader._replace(width=16, layers=1, heads=2, steps=2, batch_size=4)
        for name, reader in world_readers.READERS.items()
    }
    patch.setattr(world_readers, "READERS", small)
    pretrained = functools.partial(world_models.pretrained, steps=2, batch_size=4)
    patch.setattr(world_models, "pretrained", pretrained)
    fine_tuned = functools.partial(world_retrievers.fine_tuned, epochs=1)
    patch.setattr(world_retrievers, "fine_tuned", fine_tuned)
