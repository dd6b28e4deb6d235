"""Activations need torch and NumPy, and none of the libraries that models and reports need."""

import subprocess
import sys

PROGRAM = """
import sys
for name in ("transformers", "sklearn", "scipy", "peft", "tokenizers", "datasets", "pandas",
             "sentence_transformers", "yaml", "matplotlib", "pyarrow"):
    sys.modules[name] = None  # importing it raises ImportError

import torch
from tilefold.activations import ActivationStatistics, RowStore, capture, patch
from tilefold.activations.pooling import POOLINGS, max_pool


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask):
        return self.layer(input_ids)


model, x = Model(), torch.randn(2, 5, 4)
mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
store = RowStore(folder=sys.argv[1] + "/rows")
options = {"thresholds": [0.0], "top": 1, "histogram": True, "second_moment": True}
with capture(model, "layer", rows="mean", store=store, **options) as seen:
    hidden = model(x, mask)
statistics = seen["layer"]
assert statistics.count == 8
kept = hidden[mask.bool()].detach()
assert torch.equal(statistics.max, kept.amax(0))
assert torch.equal(statistics.min, kept.amin(0))
store.flush()
rows = RowStore.open(sys.argv[1] + "/rows")["layer"]
torch.testing.assert_close(rows, POOLINGS["mean"](hidden.detach(), mask))
assert max_pool(hidden, mask).shape == (2, 3)
statistics.save(sys.argv[1] + "/statistics.safetensors")
assert ActivationStatistics.load(sys.argv[1] + "/statistics.safetensors").count == 8
with patch(model, {"layer": torch.zeros_like}):
    assert not model(x, mask).any()
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
print(sorted(loaded & {"transformers", "sklearn", "scipy", "peft", "tokenizers"}))
"""


def test_capture_patch_and_stores_need_torch_only(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
