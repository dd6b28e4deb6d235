"""What `tilefold mechanisms` studies: a retriever beside its base, and texts to ask them with."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli.model_options import load_named
from ..cli.terminal import fact, title
from ..data import TrainingSet, read_training
from ..world import SIZES, World, make_world

if TYPE_CHECKING:
    from ..models import BiEncoder
    from .presets import Preset

BASE, RETRIEVER, RANDOM = "base", "retriever", "random weights"
_NAMED = ("model", "base", "data")


@dataclass(frozen=True)
class Subject:
    """Models and data of a study.

    Args:
        title: for people.
        models: the base, the retriever, and perhaps the base with random weights.
        data: queries with positives and hard negatives.
        world: where the data is of one.
        told: the folder of the model that was told some of the world's facts.
    """

    title: str
    models: dict[str, BiEncoder]
    data: TrainingSet
    world: World | None = None
    told: Path | None = None

    def weights(self, name: str) -> list[str]:
        """Fingerprints of both encoders, that of documents first."""
        model = self.models[name]
        return [model.document_encoder.fingerprint(), model.query_encoder.fingerprint()]


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what is studied."""
    group = parser.add_argument_group("what is studied")
    option = group.add_argument
    option("--world", choices=tuple(SIZES), help="a made-up world, and models that grow in it")
    option("--preset", metavar="NAME", help="published checkpoints: dpr, contriever or repllama")
    option("--model", metavar="NAME", help="a trained retriever, beside --base and --data")
    option("--document-model", metavar="NAME", help="its encoder of passages, if that is another")
    option("--base", metavar="NAME", help="what it was trained from")
    option("--data", metavar="PATH", help="training data with hard negatives")
    option("--split", help="of a collection given as --data (default: train)")
    option("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    option(
        "--batch-size", type=int, default=32, metavar="N", help="texts read at a time (default: 32)"
    )


def check_subject(args: argparse.Namespace) -> None:
    """Before anything is loaded or trained.

    Raises:
        ValueError: options that do not go together, or no such preset.
    """
    if args.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {args.batch_size}")
    if args.preset is not None:
        preset_of(args)
        for name in ("world", "model", "base", "document_model"):
            if getattr(args, name) is not None:
                raise ValueError(f"--preset names the models; leave out --{dashed(name)}")
        if args.data is None:
            raise ValueError("--preset needs --data")
        return
    given = [name for name in _NAMED if getattr(args, name) is not None]
    if (args.world is None) == (len(given) == 0) or (args.world is None and len(given) < 3):
        raise ValueError("give --world SIZE, --preset and --data, or --model, --base and --data")
    for name in ("split", "document_model"):
        if args.world and getattr(args, name):
            raise ValueError(f"--{dashed(name)} goes with --data; a world has its own")


def load_subject(args: argparse.Namespace, *, paraphrases: tuple[int, ...]) -> Subject:
    """The models, trained if they are a world's and were not before, and the data.

    Args:
        args: of the command.
        paraphrases: which questions about each fact of a world.
    """
    return _of_world(args, paraphrases) if args.world else _of_files(args)


def _of_world(args: argparse.Namespace, paraphrases: tuple[int, ...]) -> Subject:
    """Questions about facts that the retriever was not trained on, and what read them."""
    from ..world.retrieval_data import split_facts, training_set
    from ..world.world_models import fine_tuned, pretrained

    world = make_world(args.world, seed=args.seed)
    train, asked = split_facts(world, seed=args.seed)
    name = f"A {args.world} world, seed {args.seed}"
    title(name)
    fact("facts", f"{len(world.facts):,}, {sum(f.exposed for f in world.facts):,} of them told")
    base = pretrained(world, seed=args.seed)
    untold = pretrained(world, steps=0, seed=args.seed)
    retriever = fine_tuned(world, base, train, seed=args.seed)
    fact("models", str(base.parent))
    options = {"pooling": "cls", "normalize": False}
    models = {
        BASE: load_named(str(base), **options),
        RETRIEVER: load_named(str(retriever)),
        RANDOM: load_named(str(untold), **options),
    }
    data = training_set(world, asked, paraphrases=paraphrases, seed=args.seed)
    return Subject(name, models, data, world, base)


def _of_files(args: argparse.Namespace) -> Subject:
    """The base reads as the retriever does: pooled alike, with the same prefixes and lengths."""
    preset = preset_of(args) if args.preset else None
    retriever = _retriever(args, preset)
    queries, documents = retriever.query_encoder, retriever.document_encoder
    name = preset.base if preset else args.base
    base = load_named(
        name,
        pooling=queries.pooling,
        normalize=queries.normalize,
        append_eos=queries.append_eos,
        query_prefix=queries.prefix,
        document_prefix=documents.prefix,
        query_max_length=queries.max_length,
        document_max_length=documents.max_length,
    )
    data = read_training(
        args.data, split=args.split or "train", title_format=retriever.title_format
    )
    words = f"{preset.model if preset else args.model} against {name}, on {args.data}"
    title(words)
    models = {BASE: base, RETRIEVER: retriever, RANDOM: _untrained(base, args.seed)}
    return Subject(words, models, data)


def _untrained(base: BiEncoder, seed: int) -> BiEncoder:
    """The same architecture with the weights that it begins with."""
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


def _retriever(args: argparse.Namespace, preset: Preset | None) -> BiEncoder:
    """Its adapters, if it has any, are merged: neurons are those of the sum."""
    options = dict(preset.options) if preset else {}
    document = preset.document_model if preset else args.document_model
    if document:
        options["document"] = document
    loaded = load_named(preset.model if preset else args.model, **options)
    return loaded.merge() if loaded.query_encoder.adapter else loaded


def preset_of(args: argparse.Namespace) -> Preset:
    """The published models of --preset.

    Raises:
        ValueError: there are none of that name.
    """
    from .presets import PRESETS

    if args.preset not in PRESETS:
        raise ValueError(f"--preset must be one of {', '.join(PRESETS)}, got {args.preset!r}")
    return PRESETS[args.preset]


def dashed(name: str) -> str:
    """As it is typed."""
    return name.replace("_", "-")
