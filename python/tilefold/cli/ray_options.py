"""--ray and the options of its workers, for verbs that encode or search shards."""

from __future__ import annotations

import argparse

from ..scale.workers import Workers
from .option_types import positive

LOCAL = "local"


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Adds --ray, --workers and --worker-threads."""
    option = parser.add_argument_group("workers (docs/scale.md)").add_argument
    option(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="use workers of the Ray cluster at host:port, of the one that runs here (auto), or of "
        f"this machine alone ({LOCAL}, without an address)",
    )
    option(
        "--workers", type=positive, metavar="N", help="processes (default: all the cluster holds)"
    )
    option("--worker-threads", type=positive, metavar="N", help="threads of each (default: 1)")


def workers_of(args: argparse.Namespace, *, gpus: int = 0) -> Workers | None:
    """Returns the workers that the options ask for; None without --ray.

    Args:
        args: options of a verb.
        gpus: of each worker.

    Raises:
        ValueError: options of workers without --ray, or an address of another form.
    """
    if args.ray is None:
        for name in ("workers", "worker_threads"):
            if getattr(args, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} needs --ray")
        return None
    address = None if args.ray == LOCAL else args.ray
    return Workers(
        address=address, number=args.workers, threads=args.worker_threads or 1, gpus=gpus
    )
