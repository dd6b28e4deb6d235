#!/usr/bin/env bash
# What DPR training did to MiniLM: probes and neurons on four collections, one report for each.
# The retriever is that of examples/wiki_mix.sh, which this runs first.
#
#   examples/mechanisms.sh [FOLDER]   a folder with the collections (default: ../shared/data)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data="${1:-${TILEFOLD_DATA:-../shared/data}}"
model=build/wiki_mix_dpr/model
[ -d "$model" ] || examples/wiki_mix.sh "$data"

# Questions with a relevant passage and hard negatives: mined by words, but for ParaRel.
mkdir -p build/mechanisms
# 500 of them, every n-th, as questions about one passage may stand one after the other.
hard() {
    local all="build/mechanisms/$3.all.jsonl" step
    tilefold mine "$1" --split "$2" --bm25 --negatives 4 --out "$all"
    step=$(($(wc -l < "$all") / 500))
    [ "$step" -gt 0 ] || step=1
    awk -v step="$step" 'NR % step == 0 && NR <= 500 * step' "$all" > "build/mechanisms/$3.jsonl"
}
hard build/wiki_mix test wiki_mix
hard "$data/stackfaq/beir" test stackfaq
hard "$data/lama_trex/beir" test lama_trex
python examples/pararel.py "$data/pararel/fact_bags.json" build/mechanisms/pararel.jsonl

for name in wiki_mix stackfaq lama_trex pararel; do
    study=(--model "$model" --base minilm --data "build/mechanisms/$name.jsonl"
        --out "build/mechanisms/$name")
    tilefold mechanisms probe "${study[@]}" --candidates 2 5 --max-samples 1500
    tilefold mechanisms neurons "${study[@]}" --queries 120 --passages 24
done
