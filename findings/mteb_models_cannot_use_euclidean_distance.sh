#!/usr/bin/env bash
# mteb 2.26.24: `ScoringFunction` has EUCLIDEAN, a model's metadata may name it, and
# `select_similarity` computes it. But `AbsEncoder.similarity`, by which retrieval scores documents,
# and `similarity_pairwise` raise "Similarity function not specified." for it. So a model trained with
# Euclidean distance cannot be evaluated with its own scores.
#
# Seen on 2026-11-30 with Python 3.11.7 and torch 2.13.0:
#   select_similarity: [[-1.0, -2.0]]
#   similarity: ValueError: Similarity function not specified.
#   similarity_pairwise: ValueError: Similarity function not specified.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 mteb==2.26.24

cat > "$folder/euclidean.py" <<'PY'
import importlib.metadata

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from mteb.similarity_functions import select_similarity

assert importlib.metadata.version("mteb") == "2.26.24"


class Encoder(AbsEncoder):
    """A model whose metadata names Euclidean distance; nothing here encodes."""

    def __init__(self) -> None:
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": "a/model", "similarity_fn_name": ScoringFunction.EUCLIDEAN}
        )

    def encode(self, *inputs, **options):
        raise NotImplementedError


query, documents = np.float32([[0, 0]]), np.float32([[1, 0], [0, 2]])
scores = select_similarity(query, documents, ScoringFunction.EUCLIDEAN)
print("select_similarity:", np.asarray(scores).tolist())
model = Encoder()
for method in (model.similarity, model.similarity_pairwise):
    try:
        method(query, documents[:1])
    except ValueError as error:
        print(f"{method.__name__}: ValueError: {error}")
        assert str(error) == "Similarity function not specified."
    else:
        raise AssertionError(f"{method.__name__} returns scores now")
assert np.asarray(scores).tolist() == [[-1.0, -2.0]]
PY
"$folder/venv/bin/python" "$folder/euclidean.py"
echo "as described"
