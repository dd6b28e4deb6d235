"""Trains language models that read passages of a world: a source LM, and target LMs to be served.

Each is trained from random weights in a minute or two and kept in a folder, as in `world_models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..models import CausalLM, FusionInDecoder
from ..progress import show_progress
from .reader_models import Reader, untrained_reader
from .reading_lessons import (
    Lesson,
    LessonShares,
    LessonWriter,
    concatenated_prompt,
    fused_prompt,
)
from .reading_world import ReadingWorld
from .world_models import kept_model, optimizer_step, optimizer_with_rates

# The version of the training code, as `RECIPE` of `world_models`.
RECIPE = 1

# Targets differ from the source, and from each other, in size and in the composition of their text,
# and one in architecture. Give each a seed of its own, so that it learns from other lessons.
READERS = {
    "source": Reader("t5", 64, 2, 4, LessonShares(), 700),
    "smaller": Reader("t5", 48, 2, 4, LessonShares(max_passages=2), 700),
    "larger": Reader("t5", 96, 3, 4, LessonShares(corrected=0.05, max_passages=4), 700),
    "causal": Reader("llama", 64, 3, 4, LessonShares(), 700),
}


def trained_reader(
    world: ReadingWorld,
    name: str = "source",
    *,
    reader: Reader | None = None,
    seed: int = 0,
    paraphrases: Sequence[int] | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Trains a language model to answer questions from passages, or from memory.

    The text has statements that are drawn at random for every lesson, with the names of the world,
    and the world's exposed facts without passages: see `LessonWriter`. Facts that are not exposed
    are in no lesson. In a small world with its default registers, each of `READERS` answers all
    questions from one plain passage, about half from a corrected one and 3 % from an archaic one.

    Args:
        world: the world of names and facts.
        name: one of `READERS`; a name of your own with `reader`.
        reader: shape, text and training, in place of those of `READERS`.
        seed: of weights and lessons.
        paraphrases: which questions about a fact are in the lessons; all by default.
        folder: where models are kept; `cache_folder()` by default.

    Returns:
        A folder for `FusionInDecoder.from_pretrained` ("t5") or `CausalLM.from_pretrained`
        ("llama").

    Raises:
        ValueError: an unknown name or family.
    """
    if reader is None:
        if name not in READERS:
            raise ValueError(
                f"trained_reader: name must be one of {', '.join(READERS)}, got {name!r}"
            )
        reader = READERS[name]
    chosen = reader
    options = {**reader._asdict(), "shares": reader.shares._asdict()}
    options |= {"seed": seed, "recipe": RECIPE}
    if paraphrases is not None:
        options["paraphrases"] = list(map(int, paraphrases))
    return kept_model(
        world,
        f"reader-{name}",
        options,
        folder,
        lambda to: _train(world, chosen, seed, paraphrases, to),
    )


def _train(
    world: ReadingWorld,
    reader: Reader,
    seed: int,
    paraphrases: Sequence[int] | None,
    folder: Path,
) -> None:
    torch.manual_seed(seed)
    model = untrained_reader(world, reader)
    lessons = LessonWriter(world, reader.shares, seed=seed, paraphrases=paraphrases)
    whole: Any = model.model
    words = list(whole.get_input_embeddings().parameters())
    own = {id(weight) for weight in words}
    groups = [
        {"params": words, "lr": reader.embedding_rate},
        {"params": [weight for weight in model.parameters() if id(weight) not in own]},
    ]
    optimizer, rates = optimizer_with_rates(groups, reader.learning_rate, reader.steps)
    model.train()
    with show_progress(f"train a reader of {reader.family}", reader.steps) as display:
        for _ in range(reader.steps):
            batch = [lessons.lesson() for _ in range(reader.batch_size)]
            loss = model.loss(*_pairs(model, batch))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer_step(optimizer, rates)
            display.note(f"loss {float(loss.detach()):.2f}")
            display.advance()
    model.eval().write_weights(folder)


def _pairs(model: FusionInDecoder | CausalLM, lessons: list[Lesson]) -> tuple[Any, list[str]]:
    """Returns prompts and continuations."""
    if isinstance(model, FusionInDecoder):
        prompts: Any = [fused_prompt(one.question, one.passages) for one in lessons]
        return prompts, [one.answer for one in lessons]
    prompts = [concatenated_prompt(one.question, one.passages) for one in lessons]
    return prompts, [f" {one.answer}" for one in lessons]
