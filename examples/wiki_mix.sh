#!/usr/bin/env bash
# DPR from MiniLM on Natural Questions' questions over Wikipedia passages: top-20 accuracy by answer
# strings, before and after, on questions whose passages training never saw as positives.
#
#   examples/wiki_mix.sh [FOLDER]     a folder with wiki_mix in it (default: ../shared/data)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data="${1:-${TILEFOLD_DATA:-../shared/data}}/wiki_mix"
[ -d build/wiki_mix ] || python examples/split_by_passage.py "$data/beir" build/wiki_mix --split nq
tilefold train --config examples/wiki_mix.yaml
tilefold eval build/wiki_mix --model build/wiki_mix_dpr/model --baseline minilm \
    --answers "$data/answers.jsonl"
