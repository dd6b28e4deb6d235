"""Settings that name the models, the questions and the rewrites of a study of Invar-RAG."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ..settings import StudySettings

WorldSize = Literal["tiny", "small", "medium"]
RewriteFamily = Literal["typo", "redundancy", "formality", "ambiguity", "template", "order"]
Precision = Literal["float32", "bfloat16"]
Pooling = Literal["last", "mean"]
_FILE_FIELDS = ("model", "coarse", "data", "test")


@dataclass(frozen=True, kw_only=True)
class InvarSubjectSettings(StudySettings):
    """Models, questions and rewrites: of a synthetic world, or from files.

    Args:
        world: size of a synthetic world, in which all models are trained.
        model: causal language model, a folder or Hugging Face name; or another retriever, such as
            one that AAR trained, where generator_variants are none.
        coarse: coarse encoder (MiniLM in the paper), a folder or Hugging Face name; minilm for
            all-MiniLM-L6-v2.
        baselines: further retrievers that are measured as they are, folders or Hugging Face names.
        data: questions to train on, a training file or a collection.
        split: split of a collection given as data (default: train).
        test: questions to evaluate on, a training file or a collection.
        test_split: split of a collection given as test (default: test).
        answers: file with the answers of the questions of data and test, where they have none.
        rewrites: file with rewrites of the training questions; by default rules write them.
        unseen_rewrites: file with rewrites of the test questions; by default rules of
            unseen_families write them.
        families: rules of rewrites in training.
        n_rewrites: rewrites of each training question that rules write (default: n_views).
        unseen_families: rules of rewrites of test questions, without those of training.
        n_unseen: rewrites of each test question; questions with fewer are left out.
        query_prefix, passage_prefix: put before each text that the retriever reads (default:
            "query: " and "passage: " for a language model, its own for another retriever).
        pooling: of a text: last, the state of an end-of-sequence token after it; or mean, over its
            tokens (default: last for a language model, its own for another retriever).
        dtype: precision of the language model; adapters are trained in float32.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.
    """

    world: WorldSize | None = None
    model: str | None = None
    coarse: str | None = None
    baselines: tuple[str, ...] = ()
    data: str | None = None
    split: str | None = None
    test: str | None = None
    test_split: str | None = None
    answers: str | None = None
    rewrites: str | None = None
    unseen_rewrites: str | None = None
    families: tuple[RewriteFamily, ...] = ("redundancy", "template")
    n_rewrites: int | None = None
    unseen_families: tuple[RewriteFamily, ...] = ("typo", "formality", "ambiguity")
    n_unseen: int = 2
    query_prefix: str | None = None
    passage_prefix: str | None = None
    pooling: Pooling | None = None
    dtype: Precision = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("families", "unseen_families", "baselines"):
            self._replace(name, tuple(dict.fromkeys(getattr(self, name))))
        for name in ("n_rewrites", "n_unseen"):
            self._check_min(name, 1)
        self._check_rules("rewrites", "families", "n_rewrites")
        self._check_rules("unseen_rewrites", "unseen_families")
        shared = set(self.families) & set(self.unseen_families)
        if shared and self.rewrites is None and self.unseen_rewrites is None:
            raise ValueError(
                f"{self._named('unseen_families')}: expected none of families, got {min(shared)}"
            )
        given = [name for name in _FILE_FIELDS if getattr(self, name)]
        if self.world is not None:
            names = [field.name for field in dataclasses.fields(InvarSubjectSettings)]
            self._check_not_with_world(*(name for name in names if name not in ("world", "dtype")))
        elif len(given) < len(_FILE_FIELDS):
            missing = ", ".join(name for name in _FILE_FIELDS if name not in given)
            raise ValueError(
                f"{type(self).__name__}: expected world; or {', '.join(_FILE_FIELDS)}; missing: "
                f"{missing}"
            )

    def _check_rules(self, file: str, families: str, *others: str) -> None:
        """Checks that there are families of rules, or a file in their place."""
        if getattr(self, file) is not None:
            self._check_default(f"not with {file}, a file in place of rules", families, *others)
        elif not getattr(self, families):
            raise ValueError(f"{self._named(families)}: expected one or more, got none")

    def _check_not_with_world(self, *names: str) -> None:
        """Checks that fields have their defaults."""
        self._check_default("not with world, which has its own", *names)
