"""A limit on the sizes of files, to test what happens where a disk is full."""

import contextlib

import pytest

resource = pytest.importorskip("resource", reason="this system has no limits of file sizes")


@contextlib.contextmanager
def file_size_limit(limit):
    """Lets files that grow beyond a number of bytes fail with EFBIG, in every library."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
