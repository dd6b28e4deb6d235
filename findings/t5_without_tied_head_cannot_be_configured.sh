#!/usr/bin/env bash
# transformers 5.23.0: T5Config replaces tie_word_embeddings=False, which T5 1.1, Flan-T5 and mT5 style
# checkpoints say, by True, and keeps of it only whether decoder outputs are scaled. So
#   1. a model that is made from such a configuration, to be trained, has one matrix for words and head,
#      and the saved configuration says so;
#   2. a checkpoint with a head of its own keeps it when it is loaded, with a warning that advises
#      tie_word_embeddings=False, which the file says already, and which cannot be set;
#   3. if the head is missing from such a checkpoint, loading reports no missing weight: the words'
#      matrix takes its place.
#
# Seen on 2026-11-28 with torch 2.13.0:
#   made:    configuration says True, scaled False, head is the words' matrix: True
#   loaded:  head kept: True, advice that is followed already: True
#   no head: missing [], head equals the words' matrix: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6

cat > "$folder/tied.py" <<'PY'
import contextlib
import io
import json
import logging
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

assert transformers.__version__ == "5.23.0"
folder, kind = Path(sys.argv[1]), transformers.T5ForConditionalGeneration
sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
config = transformers.T5Config(**sizes, decoder_start_token_id=0, tie_word_embeddings=False)
model = kind(config)
made = config.tie_word_embeddings, config.scale_decoder_outputs, model.lm_head.weight is model.shared.weight
print("made:    configuration says {}, scaled {}, head is the words' matrix: {}".format(*made))
assert made == (True, False, True)

# A checkpoint as Flan-T5's are: a head of its own, and a configuration that says so.
model.save_pretrained(folder)
weights = load_file(folder / "model.safetensors")
saved = json.loads((folder / "config.json").read_text())
assert saved["tie_word_embeddings"] is True
del saved["scale_decoder_outputs"]
(folder / "config.json").write_text(json.dumps(saved | {"tie_word_embeddings": False}))
head = torch.randn(50, 16)
save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
log = io.StringIO()
logging.getLogger("transformers").addHandler(logging.StreamHandler(log))
loaded = kind.from_pretrained(folder)
kept = torch.equal(loaded.lm_head.weight, head)
advice = "update the config with `tie_word_embeddings=False`" in log.getvalue()
print(f"loaded:  head kept: {kept}, advice that is followed already: {advice}")
assert (kept, advice) == (True, True)

save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
with contextlib.redirect_stderr(io.StringIO()):
    loaded, report = kind.from_pretrained(folder, output_loading_info=True)
same = torch.equal(loaded.lm_head.weight, loaded.shared.weight)
print(f"no head: missing {sorted(report['missing_keys'])}, head equals the words' matrix: {same}")
assert (sorted(report["missing_keys"]), same) == ([], True)
PY
"$folder/venv/bin/python" "$folder/tied.py" "$folder/model"
echo "as described"
