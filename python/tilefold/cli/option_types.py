"""Types of options, checked while the command line is parsed and before any work."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Converts the text of an option to an integer of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)
