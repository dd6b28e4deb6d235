#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.23.0: LoraConfig without target_modules takes the layers that peft
# lists for an architecture. For Mixtral it lists q_proj and v_proj, and then fails with advice to
# give target_modules or target_parameters; for Mistral, which has the same entry, it works. Given
# the two names, it adapts Mixtral as well.
#
# Seen on 2026-11-28 with torch 2.13.0:
#   Mistral, listed ['q_proj', 'v_proj'], given None: ['q_proj', 'v_proj']
#   Mistral, listed ['q_proj', 'v_proj'], given ['q_proj', 'v_proj']: ['q_proj', 'v_proj']
#   Mixtral, listed ['q_proj', 'v_proj'], given None: NoMatchingPeftModuleError
#   Mixtral, listed ['q_proj', 'v_proj'], given ['q_proj', 'v_proj']: ['q_proj', 'v_proj']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6

cat > "$folder/targets.py" <<'PY'
import warnings

import peft
import torch
import transformers
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as LISTED

warnings.simplefilter("ignore")
assert (peft.__version__, transformers.__version__) == ("0.21.2", "5.23.0")
sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2}


def adapted(kind, targets):
    """Names of the layers that get an adapter, or of the error."""
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}Model")(config)
    try:
        model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets))
    except ValueError as error:
        return type(error).__name__
    return sorted({n.split(".lora_")[0].split(".")[-1] for n, _ in model.named_parameters() if "lora_" in n})


found = {}
for kind in ("Mistral", "Mixtral"):
    listed = LISTED[kind.lower()]
    for targets in (None, listed):
        found[kind, targets is None] = adapted(kind, targets)
        print(f"{kind}, listed {listed}, given {targets}: {found[kind, targets is None]}")
assert found["Mistral", True] == found["Mistral", False] == ["q_proj", "v_proj"]
assert found["Mixtral", False] == ["q_proj", "v_proj"]
assert found["Mixtral", True] == "NoMatchingPeftModuleError"
PY
"$folder/venv/bin/python" "$folder/targets.py"
echo "as described"
