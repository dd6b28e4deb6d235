"""Runs the Python examples of README.md with what is installed, in a temporary folder.

    python tests/readme_examples.py [how many must run]

Run on the wheel, beside numpy_only.py; the test suite runs them from the sources (test_pages.py).
"""

import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)


def missing(example: str) -> list[str]:
    """Returns the packages that an example imports and that are not installed."""
    names = re.findall(r"^(?:import|from) (\w+)", example, re.M)
    needed = ["torch", *names] if "tilefold.losses" in example else names
    return [name for name in needed if importlib.util.find_spec(name) is None]


def main() -> None:
    """Raises what an example raises."""
    least = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    ran = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for example in examples():
            if not missing(example):
                exec(compile(example, "README.md", "exec"), {})
                ran += 1
        os.chdir(README.parent)  # Windows removes no folder that is in use
    print(f"{ran} of {len(examples())} examples of README.md ran")
    assert ran >= least, f"expected {least}: the others lack packages"


if __name__ == "__main__":
    main()
