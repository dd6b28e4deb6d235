"""IndexSlot: the index that answers, until a reload has a whole new one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..files.printable import escaped
from .served_index import ServedIndex

_log = logging.getLogger("tilefold.service")


class IndexSlot:
    """Holds an index that requests are answered from while another generation is read.

    Args:
        open_index: opens and verifies the folder.
        fingerprint: of the folder as it is now, from `served_fingerprint`.

    Attributes:
        current: the index; requests take it once and keep it.
        generation: 1, and one more for each reload that replaced the index.
        failure: why the last reload failed; None where it did not.

    Raises:
        OSError, ValueError: the folder cannot be opened at all.
    """

    def __init__(
        self, open_index: Callable[[], ServedIndex], fingerprint: Callable[[], str]
    ) -> None:
        self._open, self._fingerprint = open_index, fingerprint
        self.current = open_index()
        self.generation = 1
        self.failure: str | None = None
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> str:
        """Opens the folder again, and replaces the index if it is another and whole.

        Requests are answered meanwhile, from the index that was there when they came.

        Returns:
            "replaced", "unchanged", or "failed": `failure` then says why, and the old index stays.
        """
        async with self._one_at_a_time:
            loop = asyncio.get_running_loop()
            # A thread of its own: requests must not wait behind checksums in a shared pool.
            with ThreadPoolExecutor(1, "tilefold-reload") as thread:
                try:
                    found = await loop.run_in_executor(thread, self._open_if_changed)
                except Exception as error:  # whatever is wrong with the new one, the old one serves
                    self.failure = escaped(f"{type(error).__name__}: {error}")
                    _log.error("reload: kept generation %d: %s", self.generation, self.failure)
                    return "failed"
            self.failure = None
            if found is None:
                return "unchanged"
            self.current, self.generation = found, self.generation + 1
            _log.info("reload: generation %d is served", self.generation)
            return "replaced"

    def _open_if_changed(self) -> ServedIndex | None:
        same = self._fingerprint() == self.current.fingerprint
        return None if same else self._open()
