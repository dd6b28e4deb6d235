"""Which compiled extension is used: that of tilefold-cuda, or the package's own."""

import importlib.metadata
import sys
import tomllib
import types
from pathlib import Path

import pytest

import tilefold
from tilefold import extension

ROOT = Path(__file__).resolve().parents[1]
OWN = "tilefold._native"


@pytest.fixture
def cuda_package(monkeypatch):
    """Returns a function that pretends tilefold-cuda to be installed in a version."""
    monkeypatch.setitem(sys.modules, OWN, sys.modules[OWN])
    known = importlib.metadata.version
    package, native = types.ModuleType("tilefold_cuda"), types.ModuleType("tilefold_cuda._native")

    def install(version: str) -> types.ModuleType:
        versions = {"tilefold-cuda": version}
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: versions.get(name) or known(name)
        )
        monkeypatch.setitem(sys.modules, "tilefold_cuda", package)
        monkeypatch.setitem(sys.modules, "tilefold_cuda._native", native)
        return native

    return install


def test_the_extension_of_tilefold_cuda_takes_the_place_of_the_own(cuda_package):
    native = cuda_package(tilefold.__version__)
    assert extension.chosen_extension() is sys.modules[OWN]
    assert sys.modules[OWN] is native


def test_another_version_is_named_and_not_used(cuda_package):
    cuda_package("9.9")
    before = sys.modules[OWN]
    with pytest.warns(RuntimeWarning, match=r"tilefold-cuda 9\.9 is installed beside tilefold"):
        assert extension.chosen_extension() is sys.modules[OWN]
    assert sys.modules[OWN] is before


def test_an_extension_that_does_not_load_is_named_and_not_used(cuda_package, monkeypatch):
    cuda_package(tilefold.__version__)
    monkeypatch.setitem(sys.modules, "tilefold_cuda._native", None)  # an import of it fails
    before = sys.modules[OWN]
    with pytest.warns(RuntimeWarning, match="tilefold-cuda is installed, but does not load"):
        assert extension.chosen_extension() is before


def test_the_versions_of_the_two_packages_agree():
    own, cuda = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        for folder in ("", "cuda/wheel")
    )
    assert cuda["version"] == own["version"]
    assert cuda["dependencies"] == [f"tilefold=={own['version']}"]
    assert f"tilefold-cuda=={own['version']}" in own["optional-dependencies"]["cuda"]
    assert cuda["requires-python"] == own["requires-python"]
