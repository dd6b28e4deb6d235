"""Settings of the study of augmentation-adapted retrieval (AAR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..settings import StudySettings

SignalName = Literal[
    "attention",
    "attention mass",
    "value norm",
    "causal attention",
    "likelihood",
    "perplexity distillation",
    "graded perplexity reduction",
    "leave one out",
]
PositivesMode = Literal["human", "lm", "both"]
ReadingWorldSize = Literal["tiny", "small", "medium"]
Pooling = Literal["cls", "mean", "last", "decoder"]
# Options of the retriever, as `BiEncoder.from_pretrained` names them.
RETRIEVER_FIELDS = (
    "pooling",
    "normalize",
    "title_format",
    "query_max_length",
    "document_max_length",
)
_FILE_FIELDS = ("retriever", "source_lm", "data", "targets", "tasks")


@dataclass(frozen=True, kw_only=True)
class AARSettings(StudySettings):
    """Settings of `run_aar`; the defaults are those of the paper (Yu et al., ACL 2023).

    Args:
        world: size of a synthetic world, in which all models are trained.
        retriever: retriever that is adapted, a folder or Hugging Face name.
        pooling: of the retriever, where its folder does not say.
        normalize: whether the retriever's vectors have length 1, where its folder does not say.
        title_format: joins a passage's title and text for the retriever, where its folder does not
            say.
        query_max_length: tokens of a query that the retriever reads.
        document_max_length: tokens of a passage that the retriever reads.
        source_lm: LM that annotates preferences, a folder or Hugging Face name: an encoder-decoder,
            or a decoder-only LM with the signals that it has.
        data: source task: questions with human judgments, a training file or a collection.
        split: split of a collection given as data (default: train).
        answers: file with the answers of its questions, where data has none.
        targets: language models that answer, as fusion:NAME, concatenation:NAME or
            api:MODEL@ADDRESS.
        tasks: target tasks, as popqa:PATH or mmlu:PATH.
        corpora: corpus of each task, a file or folder; one for all, or one each (default: the
            documents of data). A task that is named twice is compared on two corpora.
        signal: how preferences are annotated; all but attention are extensions of the paper. Causal
            attention is of decoder-only LMs; likelihood and both perplexities are of any LM and
            need answers, as leave one out does; the others are of encoder-decoders.
        modes: positives that retrievers are trained with.
        n_retrieved: passages of a question that the source LM scores (N).
        top_k: passages with the largest scores that become positives (K).
        depth: rank of the last passage that may be a hard negative (M).
        n_negatives: hard negatives kept for each question.
        group_negatives: hard negatives of a question in a step.
        exact_positives: train, in every mode, on questions with exactly so many positives of people
            and LM together; 0 for all questions.
        max_questions: at most as many source questions are used; 0 for all.
        dev_questions: source questions that are held out of training, to follow it.
        epochs: passes over the source questions.
        train_batch_size: questions in a training step.
        learning_rate: peak learning rate.
        temperature: scores are divided by it in the loss.
        refresh_steps: steps between minings of hard negatives with the model in training; 0 mines
            once, with the retriever before training.
        n_passages: passages of a question that target LMs read (default: the paper's number for
            task and LM).
        genread: every target LM also writes a document of 150 tokens for each question, and reads
            it in place of passages (GenRead).
        sweep: further numbers of passages that target LMs read, to compare.
        examples: questions that the report shows with their passages.
        seeds: seeds of training; intervals and tests are over questions, averaged over seeds.
        batch_size: texts in a forward pass.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.

    Example:
        >>> AARSettings(world="tiny", modes=["lm", "both"]).n_retrieved
        10
    """

    world: ReadingWorldSize | None = None
    retriever: str | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    title_format: str | None = None
    query_max_length: int | None = None
    document_max_length: int | None = None
    source_lm: str | None = None
    data: str | None = None
    split: str | None = None
    answers: str | None = None
    targets: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    signal: SignalName = "attention"
    modes: tuple[PositivesMode, ...] = get_args(PositivesMode)
    n_retrieved: int = 10
    top_k: int = 2
    depth: int = 100
    n_negatives: int = 30
    group_negatives: int = 7
    exact_positives: int = 0
    max_questions: int = 0
    dev_questions: int = 500
    epochs: int = 6
    train_batch_size: int = 8
    learning_rate: float = 5e-6
    temperature: float = 1.0
    refresh_steps: int = 0
    n_passages: int | None = None
    genread: bool = False
    sweep: tuple[int, ...] = ()
    examples: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("modes", "seeds"):
            self._replace(name, tuple(dict.fromkeys(getattr(self, name))))
            if not getattr(self, name):
                raise ValueError(f"{self._named(name)}: expected one or more, got none")
        for name in ("n_retrieved", "top_k", "depth", "n_negatives", "group_negatives", "epochs"):
            self._check_min(name, 1)
        for name in ("train_batch_size", "n_passages", "batch_size"):
            self._check_min(name, 1)
        for name in ("query_max_length", "document_max_length"):
            self._check_min(name, 1)
        for name in ("exact_positives", "max_questions", "dev_questions", "refresh_steps"):
            self._check_min(name, 0)
        self._replace("sweep", tuple(sorted(set(self.sweep))))
        self._check_min("sweep", 1)
        for name in ("examples", "seeds"):
            self._check_min(name, 0)
        self._check_order("top_k", "n_retrieved")
        self._check_order("n_retrieved", "depth")
        self._check_order("n_negatives", "depth")
        self._check_order("group_negatives", "n_negatives")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                got = getattr(self, name)
                raise ValueError(f"{self._named(name)}: expected a number above 0, got {got}")
        self._check_subject()

    def _check_order(self, smaller: str, larger: str) -> None:
        if getattr(self, smaller) > getattr(self, larger):
            raise ValueError(
                f"{self._named(smaller)}: expected at most {larger}, {getattr(self, larger)}, got "
                f"{getattr(self, smaller)}"
            )

    def _check_subject(self) -> None:
        given = [name for name in _FILE_FIELDS if getattr(self, name)]
        if self.world is not None:
            others = ("split", "answers", "corpora", *RETRIEVER_FIELDS)
            for name in (*given, *(n for n in others if getattr(self, n) not in (None, ()))):
                raise ValueError(f"{self._named(name)}: not with world, which has its own")
            if self.signal == "causal attention":
                raise ValueError(
                    f"{self._named('signal')}: 'causal attention' needs a decoder-only LM, and the "
                    f"source LM of a world is an encoder-decoder"
                )
            return
        if len(given) < len(_FILE_FIELDS):
            missing = ", ".join(name for name in _FILE_FIELDS if name not in given)
            raise ValueError(
                f"{type(self).__name__}: expected world; or {', '.join(_FILE_FIELDS)}; missing: "
                f"{missing}"
            )
        if len(self.corpora) not in (0, 1, len(self.tasks)):
            raise ValueError(
                f"{self._named('corpora')}: expected one for all tasks or one each, "
                f"{len(self.tasks)}, got {len(self.corpora)}"
            )
