"""The compiled extension: that of tilefold-cuda, with CUDA kernels, or else the package's own."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from types import ModuleType

from .version import __version__

_CUDA_PACKAGE, _CUDA_EXTENSION = "tilefold-cuda", "tilefold_cuda._native"


def chosen_extension() -> ModuleType:
    """Returns the extension, which is `tilefold._native` from then on.

    Warns where tilefold-cuda does not load, or has another version, whose arguments may differ.
    """
    try:
        version = importlib.metadata.version(_CUDA_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return importlib.import_module("tilefold._native")
    if version != __version__:
        _warn(
            f"{_CUDA_PACKAGE} {version} is installed beside tilefold {__version__}, and is not "
            f"used: pip install {_CUDA_PACKAGE}=={__version__}"
        )
        return importlib.import_module("tilefold._native")
    try:
        sys.modules["tilefold._native"] = importlib.import_module(_CUDA_EXTENSION)
    except ImportError as error:
        _warn(f"{_CUDA_PACKAGE} is installed, but does not load, and is not used: {error}")
    return importlib.import_module("tilefold._native")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


chosen_extension()
