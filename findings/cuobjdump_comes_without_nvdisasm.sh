#!/usr/bin/env bash
# The wheel nvidia-cuda-cuobjdump 13.5.37 depends on nothing, and `cuobjdump -sass` calls nvdisasm,
# which is in a wheel of its own: it prints the headers of the code and fails. With nvidia-cuda-nvdisasm
# installed beside it, whose program is not on PATH, it works.
#
# Seen on 2026-11-30 with Python 3.11.7 on Linux x86-64:
#   requirements of nvidia-cuda-cuobjdump: None
#   alone: status 1, 'cuobjdump fatal   : Could not find executable file 'nvdisasm'; ...
#   with nvidia-cuda-nvdisasm: status 0, FADD in the code: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
pip nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvcc==13.5.37

cat > "$folder/add.ptx" <<'PTX'
.version 8.0
.target sm_80
.address_size 64
.visible .entry add(.param .u64 out, .param .f32 a, .param .f32 b) {
  .reg .f32 %x, %y, %z;
  .reg .b64 %p;
  ld.param.u64 %p, [out];
  ld.param.f32 %x, [a];
  ld.param.f32 %y, [b];
  add.rn.f32 %z, %x, %y;
  st.global.f32 [%p], %z;
  ret;
}
PTX

cat > "$folder/disassemble.py" <<'PY'
import importlib.metadata
import subprocess
import sys
from pathlib import Path


def program(package, name):
    files = importlib.metadata.files(package)
    return next(str(file.locate()) for file in files if file.name == name)


source, alone = Path(sys.argv[1]), sys.argv[2] == "alone"
binary = source.with_suffix(".cubin")
ptxas = program("nvidia-cuda-nvcc", "ptxas")
subprocess.run([ptxas, "-arch=sm_80", source, "-o", binary], check=True)
if alone:
    needs = importlib.metadata.requires("nvidia-cuda-cuobjdump")
    print("requirements of nvidia-cuda-cuobjdump:", needs)
    assert not needs
command = [program("nvidia-cuda-cuobjdump", "cuobjdump"), "-sass", binary]
done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
found = "FADD" in done.stdout
if alone:
    print(f"alone: status {done.returncode}, {done.stderr.strip()[:62]!r}...")
    assert done.returncode == 1 and "nvdisasm" in done.stderr and not found
else:
    print(f"with nvidia-cuda-nvdisasm: status {done.returncode}, FADD in the code: {found}")
    assert done.returncode == 0 and found
PY
"$folder/venv/bin/python" "$folder/disassemble.py" "$folder/add.ptx" alone
pip nvidia-cuda-nvdisasm==13.5.37
"$folder/venv/bin/python" "$folder/disassemble.py" "$folder/add.ptx" together
