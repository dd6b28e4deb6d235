"""Bases of tiny worlds that know some of their facts, trained in seconds."""

from functools import partial
from pathlib import Path

import pytest

STEPS = 250  # of the pre-training: the base then knows about half of the facts that it saw


def use_small_bases(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Makes every study train short and keep its models in a folder of the tests."""
    from tilefold.world import world_models

    patch.setenv("TILEFOLD_CACHE", str(cache))
    patch.setattr(world_models, "pretrained", partial(world_models.pretrained, steps=STEPS))


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Returns a folder for models that all tests of a session share, in whichever process."""
    base = factory.getbasetemp()
    return (base.parent if base.name.startswith("popen-") else base) / "small-bases"
