#!/usr/bin/env bash
# tokenizers 0.23.3: training a WordPiece or Unigram tokenizer twice on the same texts, in two
# processes, gives different vocabularies. The ids of the same pieces differ (so that a model trained
# with one tokenizer is useless with the other), and where equally frequent pairs meet the limit of
# the vocabulary, WordPiece even keeps different pieces. BPE repeats.
#
# The trainer numbers the characters that continue a word ("##a") in the order of a hash table with
# a random seed, and breaks ties by number. Listing them as special tokens, in a fixed order, makes
# WordPiece repeat.
#
# Seen on 2026-11-28 with Python 3.11.7 (the 7 differs from run to run):
#   BPE: 1 vocabularies in 8 processes, 1 sets of pieces
#   WordPiece: 8 vocabularies in 8 processes, 7 sets of pieces
#   WordPiece, continuing characters listed: 1 vocabularies in 8 processes, 1 sets of pieces
#   Unigram: 8 vocabularies in 8 processes, 1 sets of pieces
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3

cat > "$folder/train.py" <<'PY'
import itertools
import json
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

kind, listed = sys.argv[1], sys.argv[2] == "listed"
syllables = ["lo", "mi", "ra", "tu", "ve", "ken", "dor", "sil", "pam", "gri", "bon", "chu"]
names = ["".join(parts) for parts in itertools.product(syllables, repeat=3)]
texts = [f"the river {a} flows to {b}" for a, b in zip(names, reversed(names))]
model, trainer = {
    "BPE": (models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
    "WordPiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
    "Unigram": (models.Unigram(), trainers.UnigramTrainer),
}[kind]
special = ["[UNK]"]
if listed:
    special += sorted({f"##{character}" for character in "".join(texts).replace(" ", "")})
options = {"vocab_size": 150, "special_tokens": special, "show_progress": False}
if kind == "Unigram":
    options["unk_token"] = "[UNK]"
tokenizer = Tokenizer(model)
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.train_from_iterator(texts, trainer(**options))
json.dump(tokenizer.get_vocab(), sys.stdout, sort_keys=True)
PY

cat > "$folder/compare.py" <<'PY'
import json
import subprocess
import sys

import tokenizers

assert tokenizers.__version__ == "0.23.3"
print(f"tokenizers {tokenizers.__version__}, Python {sys.version.split()[0]}")


def count(kind, listed=""):
    runs = [
        subprocess.run([sys.executable, sys.argv[1], kind, listed], capture_output=True, check=True)
        for _ in range(8)
    ]
    vocabularies = {run.stdout for run in runs}
    pieces = {tuple(sorted(json.loads(run.stdout))) for run in runs}
    how = ", continuing characters listed" if listed else ""
    print(f"{kind}{how}: {len(vocabularies)} vocabularies in 8 processes, {len(pieces)} sets of pieces")
    return len(vocabularies), len(pieces)


assert count("BPE") == (1, 1)
assert min(count("WordPiece")) > 1
assert count("WordPiece", "listed") == (1, 1)
assert count("Unigram")[0] > 1
PY
"$folder/venv/bin/python" "$folder/compare.py" "$folder/train.py"
echo "as described"
