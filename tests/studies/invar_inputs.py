"""Models, questions and settings for tests of the study of Invar-RAG from files."""

from pathlib import Path

import numpy as np
import torch
import transformers

import tiny_language_models
from tilefold.data import write_rewrites, write_training
from tilefold.data.training_set import TrainingSet
from tilefold.models import BiEncoder, Encoder
from tilefold.ragged_lists import Lists
from tilefold.studies.invar import InvarSettings

WORDS = [word for word in tiny_language_models.WORDS if word not in ("the", "a")]


def write_inputs(root: Path) -> Path:
    """Writes a Llama, a coarse encoder, training and test questions, and rewrites."""
    tiny_language_models.save("LlamaForCausalLM", root / "llama", max_position_embeddings=256)
    tiny_language_models.save_words("LlamaForCausalLM", root / "llama", length=256)
    words = transformers.AutoTokenizer.from_pretrained(root / "llama")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(
        **sizes, vocab_size=32, num_hidden_layers=1, max_position_embeddings=64
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    BiEncoder(Encoder(model, words, pooling="mean")).save_pretrained(root / "coarse")
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 6)) for _ in range(30)]
    for name, rows in (("train", range(20)), ("test", range(20, 30))):
        data = TrainingSet(
            [f"q{n}" for n in rows],
            [f"the {documents[n]}" for n in rows],
            [f"d{n}" for n in range(30)],
            documents,
            Lists.pack([[n] for n in rows]),
            Lists.pack([[(n + 1) % 30] for n in rows]),
            [(documents[n].split()[0],) for n in rows],
        )
        write_training(root / f"{name}.jsonl", data)
        texts = [[f"a {documents[n]}", f"over {documents[n]}"] for n in rows]
        write_rewrites(root / f"{name}-rewrites.jsonl", data.query_ids, texts)
    return root


def from_files(files: Path, **changes) -> InvarSettings:
    options = {
        "model": str(files / "llama"),
        "coarse": str(files / "coarse"),
        "data": str(files / "train.jsonl"),
        "test": str(files / "test.jsonl"),
        "rewrites": str(files / "train-rewrites.jsonl"),
        "unseen_rewrites": str(files / "test-rewrites.jsonl"),
        "variants": ["full"],
        "seeds": [0],
        "lora_rank": 2,
        "depth": 5,
        "group_negatives": 1,
        "epochs": 1,
        "train_batch_size": 8,
        "generator_epochs": 1,
        "max_new_tokens": 2,
        "n_passages": 1,
        "template": "popqa",
        **changes,
    }
    if options.get("generator_variants") == []:  # these have no effect then
        for name in {"generator_epochs", "max_new_tokens", "n_passages", "template"} - set(changes):
            del options[name]
    return InvarSettings(**options)
