#!/usr/bin/env bash
# python.sh FOLDER CPU ARGUMENTS...: runs Python for 64-bit ARM in FOLDER on an emulated processor,
# such as cortex-a57 (without dot products) or max.
set -euo pipefail
folder=$1 cpu=$2
shift 2
exec qemu-aarch64 -cpu "$cpu" -L "$folder/root" -E PYTHONPATH="$folder/package:$folder/site" \
    -E PYTHONDONTWRITEBYTECODE=1 "$folder/root/usr/bin/python3.11" "$@"
