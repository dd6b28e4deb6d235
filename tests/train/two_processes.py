"""Runs programs as two processes of torch.distributed, which take seconds to start."""

import os
import subprocess
import sys
from pathlib import Path


def run_on_two_processes(program: str, folder: Path, *arguments: str) -> None:
    """Runs a program on two ranks; it imports what tests of this folder do."""
    script = folder / "program.py"
    script.write_text(program)
    folders = [str(Path(__file__).parent), *map(os.path.abspath, sys.path)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    child = subprocess.run(
        [*launch, str(script), *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert child.returncode == 0, child.stderr[-4000:]
