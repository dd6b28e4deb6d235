#!/usr/bin/env bash
# Fine-tunes MiniLM on scifact's training claims and compares it with MiniLM on the test claims.
#
#   examples/scifact.sh [FOLDER]     a folder with scifact/beir in it (default: ../shared/data)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export TILEFOLD_DATA="${1:-${TILEFOLD_DATA:-../shared/data}}"
tilefold train --config examples/scifact.yaml
tilefold eval "$TILEFOLD_DATA/scifact/beir" --model build/scifact/model --baseline minilm \
    --document-max-length 256
