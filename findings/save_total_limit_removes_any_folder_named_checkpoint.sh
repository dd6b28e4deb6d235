#!/usr/bin/env bash
# transformers 5.23.0: `save_total_limit` keeps the newest checkpoints of an output folder and removes
# the others. It takes for a checkpoint any folder whose name begins with "checkpoint-": one that a user
# keeps there under such a name ("checkpoint-best", "checkpoint-notes") goes as the oldest, with all that
# it holds, and nothing says so. With modification times that differ by less than a second (a folder that
# was just unpacked), only folders with a number count, and the same folder stays.
#
# Seen on 2026-11-28 with Python 3.11:
#   limit 2 leaves: checkpoint-2, checkpoint-3
#   times alike:    checkpoint-2, checkpoint-3, checkpoint-best
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.23.0 numpy==2.4.6

cat > "$folder/rotate.py" <<'PY'
import os
import sys
from pathlib import Path

import transformers
from transformers.trainer_utils import rotate_checkpoints

assert transformers.__version__ == "5.23.0"


def left(folder: Path, seconds_apart: float) -> list[str]:
    """What training leaves, as it calls `rotate_checkpoints` after each checkpoint."""
    names = ["checkpoint-best", "checkpoint-1", "checkpoint-2", "checkpoint-3"]
    for age, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        (folder / name / "trainer_state.json").write_text("{}")
        moment = 1_700_000_000 + age * seconds_apart
        os.utime(folder / name, (moment, moment))
    rotate_checkpoints(str(folder), save_total_limit=2, use_mtime=True)
    return sorted(path.name for path in folder.iterdir())


folder = Path(sys.argv[1])
apart, alike = left(folder / "apart", 60), left(folder / "alike", 0)
print("limit 2 leaves:", ", ".join(apart))
print("times alike:   ", ", ".join(alike))
assert apart == ["checkpoint-2", "checkpoint-3"]
assert alike == ["checkpoint-2", "checkpoint-3", "checkpoint-best"]
PY
"$folder/venv/bin/python" "$folder/rotate.py" "$folder/runs" 2> /dev/null
echo "as described"
