#!/usr/bin/env bash
# transformers 5.23.0: Monte Carlo dropout as it is usually written, with the model in evaluation mode
# and only its modules of type nn.Dropout in training mode, leaves the dropout of attention off. BERT
# has an nn.Dropout for attention probabilities, but reads its rate alone and looks at the training
# flag of the attention module, under "sdpa" as under "eager". In training mode attention is dropped;
# so the passes that are meant to sample from the trained model sample from another one, without a
# warning. Where a configuration has hidden dropout 0, all passes are equal to the bit.
#
# Switching the attention modules to training mode as well makes the passes those of training.
#
# Seen on 2026-11-29 with torch 2.13.0:
#   sdpa: nn.Dropout modules in training mode: equal to evaluation mode
#   sdpa: attention modules, too: different, and equal to training mode
#   eager: nn.Dropout modules in training mode: equal to evaluation mode
#   eager: attention modules, too: different, and equal to training mode
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.23.0 torch==2.13.0

cat > "$folder/passes.py" <<'PY'
import torch
import transformers
from torch import nn
from transformers import BertConfig, BertModel

assert transformers.__version__ == "5.23.0"
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
config = BertConfig(
    vocab_size=50,
    intermediate_size=64,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.5,
    **sizes,
)
ids = torch.arange(2, 26)[None]


def states(model, *kinds):
    model.eval()
    for module in model.modules():
        if any(type(module).__name__ == kind for kind in kinds):
            module.training = True
    torch.manual_seed(1)
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state


for attention in ("sdpa", "eager"):
    torch.manual_seed(0)
    model = BertModel(config).eval()
    model.set_attn_implementation(attention)
    assert any(isinstance(m, nn.Dropout) and m.p == 0.5 for m in model.modules())
    plain = states(model)
    modules = states(model, "Dropout")
    both = states(model, "Dropout", "BertSelfAttention")
    model.train()
    torch.manual_seed(1)
    with torch.no_grad():
        training = model(input_ids=ids).last_hidden_state
    assert torch.equal(modules, plain)
    print(f"{attention}: nn.Dropout modules in training mode: equal to evaluation mode")
    assert not torch.equal(both, plain)
    assert torch.equal(both, training)
    print(f"{attention}: attention modules, too: different, and equal to training mode")
PY
"$folder/venv/bin/python" "$folder/passes.py"
echo "as described"
