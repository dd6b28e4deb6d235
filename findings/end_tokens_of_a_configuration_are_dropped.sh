#!/usr/bin/env bash
# transformers 5.23.0 drops add_bos_token and add_eos_token of a tokenizer_config.json where there is
# a tokenizer.json beside it; LlamaTokenizerFast of 4.57.1 made the tokenizer add both. A retriever
# that pools the last token, and whose configuration says add_eos_token so that each text ends with
# one, pools the last word instead, without a warning. Passed as arguments, both have an effect.
#
# Seen on 2026-11-28 with Python 3.11.7 (folders of LlamaTokenizerFast):
#   4.57.1, both False: ['▁red', '▁fox']
#   4.57.1, both True: ['<s>', '▁red', '▁fox', '</s>']
#   4.57.1, both True as arguments: ['<s>', '▁red', '▁fox', '</s>']
#   5.23.0, both False: ['▁red', '▁fox']
#   5.23.0, both True: ['▁red', '▁fox']
#   5.23.0, both True as arguments: ['<s>', '▁red', '▁fox', '</s>']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat > "$folder/tokens.py" <<'PY'
import json
import sys
from pathlib import Path

import tokenizers
import transformers

version, folder = sys.argv[1], Path(sys.argv[2])
assert transformers.__version__ == version
# Words and their beginnings, which are merged a letter at a time.
words = ["▁red", "▁fox"]
pieces = ["<unk>", "<s>", "</s>", *sorted(set("".join(words)))]
merges = [(word[:n], word[n]) for word in words for n in range(1, len(word))]
pieces += ["".join(pair) for pair in merges]
rules = tokenizers.Tokenizer(
    tokenizers.models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>")
)
rules.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
rules.add_special_tokens(["<unk>", "<s>", "</s>"])
rules.save(str(folder / "tokenizer.json"))
special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False}


def show(announced, **arguments):
    record = {"tokenizer_class": "LlamaTokenizerFast", **special}
    record |= {"add_bos_token": announced, "add_eos_token": announced}
    (folder / "tokenizer_config.json").write_text(json.dumps(record))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **arguments)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("red fox")["input_ids"])
    print(f"{version}, both {announced}{' as arguments' if arguments else ''}: {tokens}")
    return tokens


text, whole = words, ["<s>", *words, "</s>"]
assert show(False) == text
assert show(True) == (whole if version == "4.57.1" else text)
assert show(True, add_bos_token=True, add_eos_token=True) == whole
PY

run() {  # VERSION REQUIREMENT...
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
    "$folder/$1/bin/python" "$folder/tokens.py" "$1" "$folder"
}
run 4.57.1 transformers==4.57.1 tokenizers==0.22.1
run 5.23.0 transformers==5.23.0 tokenizers==0.23.3
echo "as described"
