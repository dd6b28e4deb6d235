"""Language models with random weights, and facts to edit in them."""

from pathlib import Path
from typing import Any

from tiny_families import FAMILIES
from tiny_language_models import CONFIGS, save_words

# Class of the model with its head -> the family in `tiny_families` that has its sizes.
MASKED = {
    "BertForMaskedLM": "BERT",
    "DistilBertForMaskedLM": "DistilBERT",
    "ElectraForMaskedLM": "ELECTRA",
    "ModernBertForMaskedLM": "ModernBERT",
    "MPNetForMaskedLM": "MPNet",
    "RobertaForMaskedLM": "RoBERTa",
}
LAYERS = 3
CAUSAL = [
    "GPT2LMHeadModel",
    "GemmaForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen3ForCausalLM",
]


def editable(name: str, folder: Path) -> Any:
    """Builds a `MaskedLM` or `CausalLM` whose logits are far from uniform, and saves it."""
    import torch
    import transformers

    from tilefold.mechanisms import feed_forwards
    from tilefold.models import CausalLM, MaskedLM

    torch.manual_seed(0)
    kind: Any = getattr(transformers, name)
    sizes = dict(CONFIGS[name] if name in CONFIGS else FAMILIES[MASKED[name]][1])
    sizes[kind.config_class.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = LAYERS
    model = kind(kind.config_class(**sizes)).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 6
    for part in feed_forwards(model):  # what neurons write is as large as the residual
        part.output.weight.data *= 4
    model.save_pretrained(folder)
    save_words("BertForMaskedLM" if name in MASKED else name, folder)
    return (MaskedLM if name in MASKED else CausalLM).from_pretrained(folder)


def facts(*, remove: bool = False) -> list[Any]:
    """Three facts, with two prompts each that causal models can read, too."""
    from tilefold.mechanisms import FactEdit

    return [
        FactEdit(
            "hen", ["the red hen sleeps under the [MASK]", "a hen runs over [MASK]"], "barn", remove
        ),
        FactEdit(
            "blue fox", ["the blue fox runs and [MASK]", "a blue fox [MASK]"], "sleeps", remove
        ),
        FactEdit("barn", ["over the barn [MASK]", "under a barn the [MASK]"], "red", remove),
    ]


TEXTS = [
    "the red hen runs over the barn",
    "a blue fox sleeps",
    "the fox and the hen",
    "under a barn",
]
