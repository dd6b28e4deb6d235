"""The folder of shards, which the starting process and all workers have to see alike."""

from __future__ import annotations

import socket
from pathlib import Path

from ..retrieval.encode_shards import Plan, plan_of


def check_shared(root: Path, plan: Plan) -> None:
    """Checks in a worker that it sees the folder of the process that started it.

    Raises:
        ValueError: it does not, or sees another one.
    """
    try:
        key = plan_of(root).key
    except FileNotFoundError:
        key = None
    if key != plan.key:
        raise ValueError(
            f"the worker on {socket.gethostname()} does not see the shards in {root}: the folder "
            "must be on storage that all machines share, under the same path"
        )
