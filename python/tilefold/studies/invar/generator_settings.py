"""Settings of stage 2 of Invar-RAG: how answers are trained, and from which prompts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ..settings import StudySettings
from .retriever_settings import FULL, Variant

NO_STAGE_2 = "has no effect without generator_variants"

RetrievalInGeneration = Literal["inactive", "merged"]


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings(StudySettings):
    """Prompts, answers and optimization of stage 2.

    Args:
        generator_variants: variants over whose retriever stage 2 is trained; answers before stage
            2 are measured over full. None for no stage 2.
        template: of prompts: author, popqa, or a text with the fields {passages} and {question}.
        n_passages: passages in a prompt.
        gold_share: share of the examples of stage 2 whose prompt is made to have a gold passage.
        retrieval_in_generation: whether the adapter for retrieval is inactive in stage 2, or merged
            with the model.
        generator_epochs: passes over the questions, stage 2.
        generator_batch_size: examples in a step, stage 2.
        generator_learning_rate: peak learning rate, stage 2.
        max_new_tokens: of an answer.
        max_length: tokens of a prompt with its answer (default: as many as the model reads).

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.
    """

    generator_variants: tuple[Variant, ...] = (FULL,)
    template: str = "author"
    n_passages: int = 5
    gold_share: float = 0.7
    retrieval_in_generation: RetrievalInGeneration = "inactive"
    generator_epochs: int = 3
    generator_batch_size: int = 16
    generator_learning_rate: float = 2e-5
    max_new_tokens: int = 32
    max_length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._replace("generator_variants", tuple(dict.fromkeys(self.generator_variants)))
        counts = "generator_epochs", "generator_batch_size", "n_passages", "max_new_tokens"
        for name in (*counts, "max_length"):
            self._check_min(name, 1)
        self._check_range("generator_learning_rate", 0, above=True)
        self._check_range("gold_share", 0, 1)
        name = self._named("generator_variants")
        if "no lora" in self.generator_variants:
            raise ValueError(
                f"{name}: expected variants with an adapter for retrieval, got 'no lora', which "
                "changes the weights that the generator would read with"
            )
        if self.generator_variants and FULL not in self.generator_variants:
            raise ValueError(f"{name}: expected {FULL!r} among them, or none")
        if not self.generator_variants:
            of_stage_2 = (field.name for field in dataclasses.fields(GeneratorSettings))
            others = (one for one in of_stage_2 if one not in ("generator_variants", "template"))
            self._check_default(NO_STAGE_2, *others)
