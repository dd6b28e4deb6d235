"""Tiny language models that know the letters and signs of the prompts, and write long texts."""

from pathlib import Path

import tiny_language_models

WORDS = [*tiny_language_models.WORDS, "A", "B", "C", "D", "Q", ":", "?", ".", "Answer", "which"]
LENGTH = 120
_LENGTHS = {
    "GPT2LMHeadModel": {"n_positions": LENGTH},
    "LlamaForCausalLM": {"max_position_embeddings": LENGTH},
    "T5ForConditionalGeneration": {},
}


def save_target(name: str, folder: Path) -> Path:
    """Saves a model with random weights and its tokenizer, which reads up to LENGTH tokens."""
    model = tiny_language_models.build(name, **_LENGTHS[name])
    # With a logit of 0, special tokens and those that no word has are seldom written.
    head = model.get_output_embeddings().weight.data
    head[:4] = head[4 + len(WORDS) :] = 0
    model.save_pretrained(folder)
    tiny_language_models.save_words(name, folder, words=WORDS, length=LENGTH)
    return folder
