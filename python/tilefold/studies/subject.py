"""The subject of a study: a retriever beside its base, and texts that both of them read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import TrainingSet, read_training
from ..world import World, make_world
from .study import Reporter
from .subject_settings import SubjectSettings

if TYPE_CHECKING:
    from ..models import BiEncoder

BASE, RETRIEVER, RANDOM = "base", "retriever", "random weights"


@dataclass(frozen=True)
class Subject:
    """Models and data of a study.

    Args:
        title: one line that names both.
        models: the base, the retriever, and perhaps the base with random weights.
        data: queries with positives and hard negatives.
        world: the synthetic world that the data is of, if any.
        masked_lm: folder of the masked language model that was trained on facts of that world.
    """

    title: str
    models: dict[str, BiEncoder]
    data: TrainingSet
    world: World | None = None
    masked_lm: Path | None = None

    def fingerprints(self, name: str) -> list[str]:
        """Returns the fingerprints of a model's document encoder and of its query encoder."""
        model = self.models[name]
        return [model.document_encoder.fingerprint(), model.query_encoder.fingerprint()]


def load_subject(
    settings: SubjectSettings, *, paraphrases: tuple[int, ...], progress: Reporter
) -> Subject:
    """Loads models and data; models of a world are trained, unless they were before.

    Args:
        settings: which ones.
        paraphrases: which questions about each fact of a world are read.
        progress: receives the title, and what is known of a world.

    Raises:
        OSError: no such file or model.
        ValueError: data or a model that cannot be read.
    """
    if settings.world is not None:
        return _world_subject(settings, settings.world, paraphrases, progress)
    return _file_subject(settings, progress)


def _world_subject(
    settings: SubjectSettings, size: str, paraphrases: tuple[int, ...], progress: Reporter
) -> Subject:
    """Asks questions about facts that the retriever was not trained on."""
    from ..models import BiEncoder
    from ..world.retrieval_data import split_facts, training_set
    from ..world.world_models import pretrained
    from ..world.world_retrievers import fine_tuned

    seed = settings.seed
    world = make_world(size, seed=seed)
    train, held_out = split_facts(world, seed=seed)
    title = f"A {size} world, seed {seed}"
    progress.started(title)
    exposed = sum(fact.exposed for fact in world.facts)
    progress.fact("facts", f"{len(world.facts):,}, {exposed:,} of them in the pretraining texts")
    base = pretrained(world, seed=seed)
    untrained = pretrained(world, steps=0, seed=seed)
    epochs = settings.retriever_epochs
    training: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    retriever = fine_tuned(world, base, train, seed=seed, **training)
    progress.fact("models", str(base.parent))
    load = BiEncoder.from_pretrained
    options: dict[str, Any] = {"pooling": "cls", "normalize": False}
    models = {
        BASE: load(base, **options),
        RETRIEVER: load(retriever),
        RANDOM: load(untrained, **options),
    }
    data = training_set(world, held_out, paraphrases=paraphrases, seed=seed).joined()
    return Subject(title, models, data, world, base)


def _file_subject(settings: SubjectSettings, progress: Reporter) -> Subject:
    """Loads both models; the base gets the retriever's pooling, prefixes and lengths."""
    assert settings.data is not None
    data = read_training(settings.data, split=settings.split or "train")  # before any download
    from ..models.model_record import open_model

    preset = settings.published
    name, base_name = (preset.model, preset.base) if preset else (settings.model, settings.base)
    assert name is not None
    assert base_name is not None
    retriever = _open_retriever(settings, name)
    queries, documents = retriever.query_encoder, retriever.document_encoder
    base = open_model(
        base_name,
        pooling=queries.pooling,
        normalize=queries.normalize,
        append_eos=queries.append_eos,
        query_prefix=queries.prefix,
        document_prefix=documents.prefix,
        query_max_length=queries.max_length,
        document_max_length=documents.max_length,
    )
    data = data.joined(retriever.title_format)
    title = f"{name} against {base_name}, on {settings.data}"
    progress.started(title)
    models = {BASE: base, RETRIEVER: retriever, RANDOM: _untrained(base, settings.seed)}
    return Subject(title, models, data)


def _untrained(base: BiEncoder, seed: int) -> BiEncoder:
    """Returns the same architecture with freshly drawn weights."""
    import torch

    from ..models import BiEncoder, Encoder

    encoder = base.query_encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = type(encoder.model)
        fresh = model(encoder.model.config)
    query = Encoder(fresh, encoder.tokenizer, **encoder.settings())
    document = query.with_options(**base.document_encoder.settings())
    return BiEncoder(query, document, title_format=base.title_format)


def _open_retriever(settings: SubjectSettings, name: str) -> BiEncoder:
    """Adapters are merged: neurons are then those of the sum of weights."""
    from ..models.model_record import open_model

    preset = settings.published
    options = dict(preset.options) if preset else {}
    document = preset.document_model if preset else settings.document_model
    if document:
        options["document"] = document
    loaded = open_model(name, **options)
    return loaded.merge() if loaded.query_encoder.adapter else loaded
