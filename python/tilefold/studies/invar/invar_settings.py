"""Settings of the study of invariant, LLM-aligned retrieval (Invar-RAG)."""

from __future__ import annotations

from dataclasses import dataclass

from .generator_settings import NO_STAGE_2, GeneratorSettings
from .invar_subject_settings import InvarSubjectSettings
from .retriever_settings import RetrieverSettings

DEPTH = 100  # passages of a ranking

# Linear layers of a Llama, which the language model of a world is.
_LLAMA_LAYERS = "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"


@dataclass(frozen=True, kw_only=True)
class InvarSettings(InvarSubjectSettings, RetrieverSettings, GeneratorSettings):
    """Settings of `run_invar`; see docs/invar.md for what is the paper's.

    Args:
        windows: words of a chunk, each a context window in the evaluation beside whole passages.
        sweep_weights: further weights of the invariance loss, first seed.
        sweep_views: further numbers of rewrites in a step, first seed.
        rerank_depth: coarse candidates of each wording that the full retriever ranks again, as a
            further system, cutoff or more; 0 for none.
        cutoff: passages of a ranking that are compared between interventions, at most 100.
        examples: questions that the report shows under their rewrites.
        seeds: seeds of training; intervals and tests are over questions, averaged over seeds. The
            first one is that of a world and its other models, too.
        batch_size: texts in a forward pass.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.

    Example:
        >>> InvarSettings(world="tiny", variants=["full", "no invariance"]).invariance
        'consistency'
    """

    windows: tuple[int, ...] = ()
    sweep_weights: tuple[float, ...] = ()
    sweep_views: tuple[int, ...] = ()
    rerank_depth: int = 0
    cutoff: int = 10
    examples: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._replace("seeds", tuple(dict.fromkeys(self.seeds)))
        if not self.seeds:
            raise ValueError(f"{self._named('seeds')}: expected one or more, got none")
        for name in ("windows", "sweep_views", "sweep_weights"):
            self._replace(name, tuple(sorted(set(getattr(self, name)))))
        for name in ("windows", "sweep_views", "batch_size"):
            self._check_min(name, 1)
        self._check_range("cutoff", 1, DEPTH)
        if self.rerank_depth:
            self._check_range("rerank_depth", self.cutoff, DEPTH)
        for name in ("examples", "seeds"):
            self._check_min(name, 0)
        if any(not 0 < weight < float("inf") for weight in self.sweep_weights):
            raise ValueError(
                f"{self._named('sweep_weights')}: expected numbers above 0, got "
                f"{self.sweep_weights}"
            )
        self._check_views()
        self._check_world()
        self._check_variants()

    def _check_views(self) -> None:
        """Checks numbers of rewrites in a step against windows, and rewrites that rules write."""
        highest = max(self.n_views, *self.sweep_views, 1)
        if 0 < len(self.training_windows) < highest:
            raise ValueError(
                f"{self._named('training_windows')}: expected as many widths as views, "
                f"{highest}, got {len(self.training_windows)}"
            )
        written = self.n_rewrites or self.n_views
        if self.world is None and self.rewrites is None and highest > written:
            name = "n_views" if self.n_views > written else "sweep_views"
            raise ValueError(
                f"{self._named(name)}: expected at most n_rewrites, {written}, got {highest}"
            )

    def _check_world(self) -> None:
        """Checks settings against what a world has."""
        if self.world is None:
            return
        self._check_not_with_world("template")
        wrong = set(self.lora_targets) - {*_LLAMA_LAYERS, "all-linear"}
        if wrong:
            raise ValueError(
                f"{self._named('lora_targets')}: expected all-linear or some of "
                f"{', '.join(_LLAMA_LAYERS)} in a world, got {min(wrong)!r}"
            )
        for name, values in (("n_views", (self.n_views,)), ("sweep_views", self.sweep_views)):
            if max(values, default=1) > 1:
                raise ValueError(
                    f"{self._named(name)}: expected 1, as a world has one rewrite of a question "
                    f"for training, got {max(values)}"
                )

    def _check_variants(self) -> None:
        """Checks the variants of stage 2 and the precision against those of stage 1."""
        for variant in self.generator_variants:
            if variant not in self.variants:
                raise ValueError(
                    f"{self._named('generator_variants')}: expected some of variants, got "
                    f"{variant!r}"
                )
        if not self.generator_variants and self.alignment != "likelihood":
            self._check_default(NO_STAGE_2, "template")
        if self.dtype == "bfloat16" and "no lora" in self.variants:
            raise ValueError(
                f"{self._named('dtype')}: expected float32, as the variant 'no lora' trains the "
                "weights themselves, got bfloat16"
            )
