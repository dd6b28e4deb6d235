"""Keeps the responses of an API on disk, so that a run that was killed repeats no request.

SQLite holds them: each response is one transaction, which a kill in the middle of a write leaves
either whole or absent, and processes that share a file wait for one another.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from ...files.done_once import digest_of

# "tfac" as a big-endian integer: the mark by which SQLite files name the program that wrote them.
_APPLICATION = 0x74666163
_VERSION = 1  # of the table
_PATIENCE = 60.0  # seconds to wait while another process writes; a write takes milliseconds
_TABLE = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, response TEXT NOT NULL
) WITHOUT ROWID
"""


class AnswerCache:
    """Responses by the digest of their request, in one file; entries are added, never changed.

    Several threads may share a cache, and several processes a file. Use it in a `with` block.

    Args:
        path: the file, which is created where there is none; its folder exists.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the file is something else, or of another version.
        OSError: it cannot be opened or written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answers.sqlite"
        >>> with AnswerCache(path) as cache:
        ...     cache.add("some-model", '{"prompt": "Q: who? A:"}', '{"text": " She."}')
        >>> with AnswerCache(path) as cache:
        ...     cache.get("some-model", '{"prompt": "Q: who? A:"}')
        '{"text": " She."}'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"AnswerCache: the folder of {self._path} does not exist")
        self._lock = threading.Lock()
        with self._named_errors():
            # Every statement is a transaction of its own, unless one is begun.
            self._connection = sqlite3.connect(
                self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
        try:
            with self._named_errors():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Returns the number of responses."""
        with self._lock, self._named_errors():
            return int(self._connection.execute("SELECT count(*) FROM responses").fetchone()[0])

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def get(self, model: str, request: str) -> str | None:
        """Returns the response to a request, or None.

        Args:
            model: identifies who answers: the address of the service and the name of its model.
            request: canonical JSON, without keys of access.
        """
        with self._lock, self._named_errors():
            row = self._connection.execute(
                "SELECT response FROM responses WHERE key = ?", (digest_of([model, request]),)
            ).fetchone()
        return None if row is None else str(row[0])

    def add(self, model: str, request: str, response: str) -> None:
        """Keeps a response; it is on the disk when this returns. The first one to a request stays.

        Args:
            model, request: of `get`.
            response: JSON.
        """
        with self._lock, self._named_errors():
            self._connection.execute(
                "INSERT OR IGNORE INTO responses VALUES (?, ?, ?)",
                (digest_of([model, request]), request, response),
            )

    def _prepare(self) -> None:
        """Creates the table in a new file, and checks who wrote another one."""
        run = self._connection.execute
        run("PRAGMA synchronous = FULL")  # a response that was paid for survives a power failure
        run("BEGIN IMMEDIATE")  # two processes may find the file new at the same time
        application, version = (
            run(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if (application, version, tables) == (0, 0, 0):
            run(_TABLE)
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {_VERSION}")
        elif (application, version) != (_APPLICATION, _VERSION):
            run("ROLLBACK")
            raise ValueError(
                f"AnswerCache: {self._path} is not a cache of answers of this version of tilefold; "
                f"name another file"
            )
        run("COMMIT")

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turns errors of SQLite into those of files and values, with the name of the file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"AnswerCache: {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"AnswerCache: {self._path} cannot be read: {error}") from error
