#!/usr/bin/env bash
# beir 2.2.0: `EvaluateRetrieval.evaluate` removes every result whose id is that of its query, by
# default and also where the judgments call it relevant. That is right for ArguAna and Quora, whose
# queries are documents. Where queries and documents are each numbered from 0, as in a collection of
# questions and their answers, it removes the answers: a perfect run scores 0. trec_eval, through
# pytrec_eval, gives the same run 1.
#
# Seen on 2026-11-28 with Python 3.11.7:
#   nDCG: trec_eval 1.0, beir 1.0, beir by default 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check beir==2.2.0

cat > "$folder/numbered.py" <<'PY'
import importlib.metadata

import pytrec_eval
from beir.retrieval.evaluation import EvaluateRetrieval

assert importlib.metadata.version("beir") == "2.2.0"
# Question i is answered by document i, and the run finds it first.
judged = {str(i): {str(i): 1} for i in range(10)}
run = {str(i): {str(i): 2.0, str((i + 1) % 10): 1.0} for i in range(10)}
measured = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10"}).evaluate(run)
trec = sum(query["ndcg_cut_10"] for query in measured.values()) / len(measured)
kept = EvaluateRetrieval.evaluate(judged, {q: dict(r) for q, r in run.items()}, [10], False)[0]
removed = EvaluateRetrieval.evaluate(judged, {q: dict(r) for q, r in run.items()}, [10])[0]
print(f"nDCG@10: trec_eval {trec}, beir {kept['NDCG@10']}, beir by default {removed['NDCG@10']}")
assert (trec, kept["NDCG@10"], removed["NDCG@10"]) == (1.0, 1.0, 0.0)
PY
"$folder/venv/bin/python" "$folder/numbered.py"
echo "as described"
