#!/usr/bin/env bash
# sentence-transformers 6.2.0: encode_document is documented to use the first prompt that there is of
# "document", "passage" and "corpus". But every loaded model has a prompt "document", an empty one
# where its folder has none. So
#   1. the prompts "passage" and "corpus" of a folder are never applied;
#   2. the default prompt, which a folder may name, is applied by encode() alone: not by encode_query
#      without a prompt "query", nor by encode_document.
# A retriever that is published with the prompts "query" and "passage" encodes its passages without.
#
# Seen on 2026-11-28 with torch 2.13.0, transformers 5.23.0:
#   {'query': 'ask: ', 'document': 'tell: '}, default None: query ask, document tell, encode none
#   {'query': 'ask: ', 'passage': 'tell: '}, default None: query ask, document none, encode none
#   {'query': 'ask: ', 'corpus': 'tell: '}, default None: query ask, document none, encode none
#   {'passage': 'tell: '}, default passage: query none, document none, encode tell
#   {'any': 'mark: '}, default any: query none, document none, encode mark
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    sentence-transformers==6.2.0 torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 numpy==2.4.6

cat > "$folder/prompts.py" <<'PY'
import json
import sys
from pathlib import Path

import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

assert sentence_transformers.__version__ == "6.2.0"
assert "passage" in SentenceTransformer.encode_document.__doc__
folder = Path(sys.argv[1])
words = ["[PAD]", "[UNK]", "ask:", "tell:", "mark:", "red", "fox"]
rules = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
)
rules.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
transformers.PreTrainedTokenizerFast(tokenizer_object=rules, **special).save_pretrained(folder / "bert")
torch.manual_seed(0)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes)
transformers.BertModel(config).save_pretrained(folder / "bert")
SentenceTransformer(modules=[Transformer(str(folder / "bert")), Pooling(16)], device="cpu").save(
    str(folder / "model"), create_model_card=False
)
path = folder / "model" / "config_sentence_transformers.json"
saved = json.loads(path.read_text())


def applied(encode, model):
    """Names of the prompt that was put before the text, by its vector."""
    vector = encode("red fox")
    tried = {"none": "", "ask": "ask: ", "tell": "tell: ", "mark": "mark: "}
    same = [n for n, p in tried.items() if abs(model.encode(p + "red fox", prompt="") - vector).max() < 1e-6]
    assert len(same) == 1
    return same[0]


def show(prompts, default):
    path.write_text(json.dumps({**saved, "prompts": prompts, "default_prompt_name": default}))
    model = SentenceTransformer(str(folder / "model"), device="cpu")
    found = [applied(f, model) for f in (model.encode_query, model.encode_document, model.encode)]
    print(f"{prompts}, default {default}: query {found[0]}, document {found[1]}, encode {found[2]}")
    return tuple(found)


assert show({"query": "ask: ", "document": "tell: "}, None) == ("ask", "tell", "none")
assert show({"query": "ask: ", "passage": "tell: "}, None) == ("ask", "none", "none")
assert show({"query": "ask: ", "corpus": "tell: "}, None) == ("ask", "none", "none")
assert show({"passage": "tell: "}, "passage") == ("none", "none", "tell")
assert show({"any": "mark: "}, "any") == ("none", "none", "mark")
PY
"$folder/venv/bin/python" "$folder/prompts.py" "$folder"
echo "as described"
