#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.23.0: an adapter of LoraConfig(target_modules="all-linear") is
# saved with the whole paths of its layers where the model has fewer than 20 of them, and with the
# last parts of their names where it has more. So an adapter that was trained on a Llama with its
# language modelling head is refused by the same model without the head if the model has one or two
# layers, and with three it is accepted, with a warning that keys are missing: its weights, whose
# names have the path as well, are not loaded, and the adapter has no effect.
#
# Seen on 2026-11-29 with torch 2.13.0:
#   1 layers, 7 targets such as model.layers.0.mlp.down_proj: without the head NoMatchingPeftModuleError
#   2 layers, 14 targets such as model.layers.0.mlp.down_proj: without the head NoMatchingPeftModuleError
#   3 layers, 7 targets such as down_proj: without the head 0 of 21 trained weights loaded, 1 warning
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6

cat > "$folder/paths.py" <<'PY'
import json
import pathlib
import tempfile
import warnings

import peft
import torch
import transformers

assert (peft.__version__, transformers.__version__) == ("0.21.2", "5.23.0")
sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}


def observed(layers):
    """Saves an adapter of a model with a head, and loads it over one without."""
    config = transformers.LlamaConfig(**sizes, num_hidden_layers=layers)
    whole = transformers.LlamaForCausalLM(config)
    model = peft.get_peft_model(whole, peft.LoraConfig(r=2, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)  # it begins at zero: no effect
    folder = pathlib.Path(tempfile.mkdtemp())
    model.save_pretrained(folder)
    targets = json.loads((folder / "adapter_config.json").read_text())["target_modules"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            bare = peft.PeftModel.from_pretrained(transformers.LlamaModel(config), folder)
        except ValueError as error:
            return sorted(targets), type(error).__name__
    trained = [bool(w.any()) for name, w in bare.named_parameters() if "lora_B" in name]
    missing = sum("missing adapter keys" in str(one.message) for one in caught)
    loaded = f"{sum(trained)} of {len(trained)} trained weights loaded, {missing} warning"
    return sorted(targets), loaded


found = {}
for layers in (1, 2, 3):
    targets, found[layers] = observed(layers)
    print(
        f"{layers} layers, {len(targets)} targets such as {targets[0]}: without the head "
        f"{found[layers]}"
    )
    assert targets[0] == ("down_proj" if layers == 3 else "model.layers.0.mlp.down_proj")
assert found[1] == found[2] == "NoMatchingPeftModuleError"
assert found[3] == "0 of 21 trained weights loaded, 1 warning"
PY
"$folder/venv/bin/python" "$folder/paths.py"
echo "as described"
