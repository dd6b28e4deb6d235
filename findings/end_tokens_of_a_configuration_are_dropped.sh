#!/usr/bin/env bash
# transformers 5.23.0: add_bos_token and add_eos_token of a tokenizer_config.json are dropped before
# the tokenizer is built where there is a tokenizer.json, whichever class it names. Version 4 of
# LlamaTokenizerFast and GemmaTokenizerFast built the post-processor from them. Retrievers that pool
# the last token, and whose configuration says add_eos_token so that each text ends with one, now
# pool the last word instead. The tokenizer then says itself that it adds none, and passing the
# same two as arguments has an effect.
#
# Seen on 2026-11-28:
#   configuration says False: ['red', 'fox'], add_eos_token is False
#   configuration says True: ['red', 'fox'], add_eos_token is False
#   passed as arguments: ['<s>', 'red', 'fox', '</s>'], add_eos_token is True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.23.0 tokenizers==0.23.3

cat > "$folder/tokens.py" <<'PY'
import json
import sys
from pathlib import Path

import tokenizers
import transformers

assert transformers.__version__ == "5.23.0"
folder = Path(sys.argv[1])
words = ["<pad>", "<unk>", "<s>", "</s>", "red", "fox"]
rules = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
)
rules.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
rules.save(str(folder / "tokenizer.json"))
special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def show(how, **arguments):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **arguments)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("red fox")["input_ids"])
    print(f"{how}: {tokens}, add_eos_token is {tokenizer.add_eos_token}")
    return tokens


for announced in (False, True):
    flags = {"add_bos_token": announced, "add_eos_token": announced}
    record = {"tokenizer_class": "PreTrainedTokenizerFast", **special, **flags}
    (folder / "tokenizer_config.json").write_text(json.dumps(record))
    assert show(f"configuration says {announced}") == ["red", "fox"]
assert show("passed as arguments", add_bos_token=True, add_eos_token=True)[-1] == "</s>"
PY
"$folder/venv/bin/python" "$folder/tokens.py" "$folder"
echo "as described"
