#!/usr/bin/env bash
# torch 2.13.0: `torch.save` writes a zip archive with a CRC-32 of each entry, and `torch.load` does not
# compare them. A file in which one bit was changed, by a faulty disk or a transfer, gives other numbers
# without a warning; Python's zipfile names the entry. Resuming from an optimizer.pt is such a load.
#
# Seen on 2026-11-28 with Python 3.11:
#   whole file:   zipfile finds None
#   one bit else: loaded without an error, 1 of 1,000 numbers differ, zipfile finds archive/data/0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6

cat > "$folder/load.py" <<'PY'
import io
import zipfile

import torch

assert torch.__version__.split("+")[0] == "2.13.0"
assert torch.serialization.get_crc32_options()
numbers = torch.arange(1000, dtype=torch.float32)
file = io.BytesIO()
torch.save(numbers, file)
found = zipfile.ZipFile(file).testzip()
print("whole file:   zipfile finds", found)
assert found is None

content = bytearray(file.getvalue())
content[content.index(numbers.numpy().tobytes()) + 2000] ^= 1
changed = torch.load(io.BytesIO(content), weights_only=True)
differ = int((changed != numbers).sum())
found = zipfile.ZipFile(io.BytesIO(content)).testzip()
print(f"one bit else: loaded without an error, {differ} of 1,000 numbers differ, zipfile finds {found}")
assert (differ, found) == (1, "archive/data/0")
PY
"$folder/venv/bin/python" "$folder/load.py"
echo "as described"
