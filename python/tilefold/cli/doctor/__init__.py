"""`tilefold doctor`: shows what this machine supports and uses, and tests every kernel.

Reads the version of torch from its metadata; only ``--torch`` imports it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from ..terminal import say
from .examination import diagnose
from .rendering import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold doctor`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--torch", action="store_true", help="import torch first, to see the libraries it loads"
    )


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold doctor`: 0 when all is well, 1 when a self-test fails."""
    diagnosis = diagnose(import_torch=args.torch)
    if args.json:
        for line in json.dumps(dataclasses.asdict(diagnosis), indent=2).splitlines():
            say(line)
    else:
        render(diagnosis)
    return 1 if diagnosis.problems else 0
