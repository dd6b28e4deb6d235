"""Locks on folders and on files that may not exist yet, against other processes and threads."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Holds a lock on a folder until the block ends or the process dies.

    Where the system or the file system has no such locks, nothing is held: then two saves of one
    folder at a time may lose one another.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is false.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(handle, mode)
        except OSError as error:
            if not wait or error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may hold the handle on
        os.close(handle)


@contextlib.contextmanager
def locked_beside(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock for a file or folder that may not exist yet, until the block ends.

    The lock is a file ``.<name>.lock`` beside it, which is removed at the end; one that a killed
    process left is taken over. The library filelock holds it. Where that is not installed,
    `flock` does, which filelock calls too, so that both kinds of processes exclude each other.

    Args:
        path: what the lock is for; a symbolic link is followed.
        wait: whether to wait while somebody else holds it.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is false.
        FileExistsError: something else has the name of the lock.
        OSError: the folder of `path` does not exist, or cannot be written.
        ImportError: filelock is not installed, and this system has no `flock`.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    if not lock.parent.is_dir():  # filelock would create it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(lock.parent))
    _check_lock_file(lock)
    with _lock_file(lock, wait=wait):
        try:
            yield
        finally:  # removed while it is held: others notice that what they opened has lost its name
            with contextlib.suppress(OSError):  # Windows removes no open files
                lock.unlink(missing_ok=True)


def _check_lock_file(lock: Path) -> None:
    """Locks are empty files: anything else of the name would be lost by taking it for one."""
    with contextlib.suppress(FileNotFoundError):
        found = lock.lstat()
        if found.st_size or not stat.S_ISREG(found.st_mode):
            raise FileExistsError(errno.EEXIST, "this is no lock of tilefold", os.fspath(lock))


def _lock_file(lock: Path, *, wait: bool) -> contextlib.AbstractContextManager[None]:
    try:
        import filelock  # noqa: F401
    except ModuleNotFoundError:
        if fcntl is None:
            raise ImportError(f"{lock} needs filelock: pip install filelock") from None
        return _flocked(lock, wait=wait)
    return _filelocked(lock, wait=wait)


@contextlib.contextmanager
def _filelocked(lock: Path, *, wait: bool) -> Iterator[None]:
    import filelock

    holder = filelock.FileLock(lock)
    try:
        holder.acquire(blocking=wait)
    except filelock.Timeout:
        raise _in_use(lock) from None
    try:
        yield
    finally:
        holder.release()


@contextlib.contextmanager
def _flocked(lock: Path, *, wait: bool) -> Iterator[None]:
    mode = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, mode)
            except BlockingIOError:
                raise _in_use(lock) from None
            if os.fstat(handle).st_nlink:  # else its holder has removed it meanwhile
                yield
                return
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may hold the handle on
            os.close(handle)


def _in_use(lock: Path) -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, "somebody else holds the lock", os.fspath(lock))
