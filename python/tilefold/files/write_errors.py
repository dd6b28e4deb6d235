"""Turns what libraries raise where a disk is full into an OSError that names the file or folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from safetensors import SafetensorError

# Python's files raise these without a name where a buffer is flushed; EFBIG is a limit of the
# process (ulimit -f), EDQUOT one of the user.
_DISK = {errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}
_TORCH = "inline_container", "PytorchStreamWriter"  # torch.save writes archives in C++


@contextlib.contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names a path in errors of a block that writes it.

    Args:
        path: file or folder that the block writes.

    Raises:
        OSError: the disk is full, for example; safetensors and torch have errors of their own.

    Example:
        >>> with write_errors("model.bin"):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: 'model.bin'
    """
    try:
        yield
    except SafetensorError as error:
        if not re.search(r"\bserializing", str(error)):  # the block has read a file, too
            raise
        raise OSError(f"{os.fspath(path)} could not be written: {error}") from error
    except RuntimeError as error:
        if not any(name in str(error) for name in _TORCH):
            raise
        raise OSError(
            f"{os.fspath(path)} could not be written, is the disk full? {error}"
        ) from error
    except OSError as error:
        number = error.errno
        if number is None or number not in _DISK or error.filename is not None:
            raise
        raise OSError(number, os.strerror(number), os.fspath(path)) from error
