#!/usr/bin/env bash
# transformers 5.23.0: `generate` of a T5 whose decoder has more layers than its encoder, as some of the
# published "efficient" T5 have it, raises an IndexError: the cache that it makes has as many layers as
# the encoder. Without a cache, or with one that is passed, it works, and with the layers the other way
# round it works as well.
#
# Seen on 2026-11-28 with torch 2.13.0:
#   2 and 3 layers: IndexError; without a cache 4 tokens; with an own cache 4 tokens
#   3 and 2 layers: 4 tokens; without a cache 4 tokens; with an own cache 4 tokens
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 numpy==2.4.6

cat > "$folder/uneven.py" <<'PY'
import torch
import transformers
from transformers import DynamicCache, EncoderDecoderCache, T5Config, T5ForConditionalGeneration

assert transformers.__version__ == "5.23.0"
sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 4}
special = {"decoder_start_token_id": 0, "eos_token_id": 3, "pad_token_id": 0}


def generated(model, **options):
    """Number of tokens, or the name of the error."""
    ids = torch.tensor([[5, 6, 7]])
    try:
        found = model.generate(input_ids=ids, max_new_tokens=3, do_sample=False, **options)
    except IndexError as error:
        return type(error).__name__
    return f"{found.shape[1]} tokens"


seen = {}
for encoder, decoder in ((2, 3), (3, 2)):
    torch.manual_seed(0)
    config = T5Config(**sizes, **special, num_layers=encoder, num_decoder_layers=decoder)
    model = T5ForConditionalGeneration(config).eval()
    plain = generated(model)
    without = generated(model, use_cache=False)
    own = generated(model, past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()))
    print(f"{encoder} and {decoder} layers: {plain}; without a cache {without}; with an own cache {own}")
    seen[encoder, decoder] = (plain, without, own)
assert seen[2, 3] == ("IndexError", "4 tokens", "4 tokens")
assert seen[3, 2] == ("4 tokens",) * 3
PY
"$folder/venv/bin/python" "$folder/uneven.py"
echo "as described"
