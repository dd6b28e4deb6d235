"""Trains a BERT on the exposed facts of a world, and keeps models of a world in folders.

Each model is trained once and kept in a folder, whose name has a digest of everything that it
depends on: the facts and texts of the world, the settings, the base model, and `RECIPE`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..files.done_once import result_key
from ..files.folder_digests import DIGESTS, check_digests, write_digests
from ..files.locked import locked_beside
from ..files.published_folder import written_aside
from ..models import MaskedLM
from ..progress import show_progress
from .facts import World
from .retrieval_data import documents

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_LENGTH = 128  # tokens
N_LAYERS = 4
# The version of the training code. To be raised with any change of this file, `world_retrievers.py`
# or `retrieval_data.py` after which the same world and settings give other weights: models that
# were kept are then trained again. Changes of facts and texts are noticed without it.
RECIPE = 2


def cache_folder() -> Path:
    """Returns the folder for trained models: TILEFOLD_CACHE, or one of the user's cache."""
    named = os.environ.get("TILEFOLD_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(home) / "tilefold"


def pretrained(
    world: World,
    *,
    steps: int = 1800,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Path:
    """Pre-trains a BERT of 4 layers and 128 dimensions on the exposed facts, by masked words.

    Each pass over the facts has three of the six statements of every exposed one. In half of the
    sentences the object is masked, as a salient span (Guu et al., "REALM", 2020, section 3.4); in
    the others 15 % of tokens are. Facts that are not exposed are in no sentence, but their words
    are in the vocabulary.

    Args:
        world: the world of the facts.
        steps, batch_size, learning_rate: of AdamW, with linear decay after warm-up over a tenth of
            the steps. The defaults suffice for a small world: the right word gets a probability of
            0.9.
        seed: of weights, order and masks.
        folder: where models are kept; `cache_folder()` by default.

    Returns:
        A folder for `MaskedLM.from_pretrained` and `BiEncoder.from_pretrained`.
    """
    options = {"steps": steps, "batch_size": batch_size, "rate": learning_rate, "seed": seed}
    return kept_model(world, "bert", options, folder, lambda to: _pretrain(world, options, to))


def kept_model(
    world: World,
    kind: str,
    options: dict[str, Any],
    folder: str | Path | None,
    make: Callable[[Path], None],
) -> Path:
    """Returns the folder of a model that was trained before, or trains it.

    Raises:
        WrongChecksumError: a file of the model was changed after it was trained.
        CorruptedFolderError: a file is missing.
    """
    root = (cache_folder() if folder is None else Path(folder)) / "world"
    path = root / f"{kind}-{world.size}-{model_digest(world, kind, options)}"
    if not (path / DIGESTS).is_file():  # also a model that was kept before there were digests
        root.mkdir(parents=True, exist_ok=True)
        with locked_beside(path):  # a second process waits here, and finds the model afterwards
            if not (path / DIGESTS).is_file():
                with written_aside(path, "config.json") as partial:
                    make(partial)
                    write_digests(partial, path.name)
    check_digests(path, path.name)
    return path


def model_digest(world: World, kind: str, options: Mapping[str, Any]) -> str:
    """Returns a digest of everything that the weights of a model depend on.

    Args:
        world: its facts, passages, objects, sentences and questions count, however made.
        kind: of model, "bert" or "dpr".
        options: settings of the training.
    """
    numbers = range(len(world.facts))
    sentences = [[*world.clozes(n), *world.questions(n)] for n in numbers]
    texts = [world.facts, world.passages, world.objects, sentences]
    return result_key(kind, RECIPE, [world.size, world.seed, texts, options])


def _pretrain(world: World, options: dict[str, Any], folder: Path) -> None:
    import transformers

    tokenizer = _tokenizer(world)
    torch.manual_seed(options["seed"])
    model = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=MAX_LENGTH,
            hidden_dropout_prob=0.0,  # a model of this size underfits with dropout
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    exposed = [n for n, fact in enumerate(world.facts) if fact.exposed]
    if not exposed:  # there is nothing to train on
        _save(model, tokenizer, folder)
        return
    optimizer, rates = optimizer_with_rates(model.parameters(), options["rate"], options["steps"])
    rng = np.random.default_rng([options["seed"], 3])
    sentences = _sentences(world, exposed, rng)
    model.train()
    with show_progress(f"pre-train on {len(exposed):,} facts", options["steps"]) as display:
        for _ in range(options["steps"]):
            batch = list(itertools.islice(sentences, options["batch_size"]))
            tokens, masked, words = _masked(tokenizer, batch, rng)
            states = model.bert(**tokens).last_hidden_state[masked]
            loss = F.cross_entropy(model.cls(states), words)  # logits at masked tokens alone
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer_step(optimizer, rates)
            display.note(f"loss {float(loss.detach()):.2f}")
            display.advance()
    _save(model, tokenizer, folder)


def _sentences(
    world: World, facts: Sequence[int], rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    """Yields statements with their objects, without end and in another order in each pass."""
    while True:
        stated = []
        for number in facts:
            paraphrases = world.statements(number)
            for place in rng.permutation(len(paraphrases))[: len(paraphrases) // 2]:
                stated.append((paraphrases[int(place)], world.facts[number].object))
        for place in rng.permutation(len(stated)):
            yield stated[place]


def _masked(
    tokenizer: Any, batch: Sequence[tuple[str, str]], rng: np.random.Generator
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Returns tokens with some masked, where these are, and their ids before."""
    tokens = tokenizer([text for text, _ in batch], padding=True, return_tensors="pt")
    ids: Tensor = tokens["input_ids"]
    objects = torch.tensor(tokenizer.convert_tokens_to_ids([o.lower() for _, o in batch]))
    ordinary = ids >= len(_SPECIAL)
    chosen = torch.from_numpy(rng.random(ids.shape)) < 0.15
    salient = torch.from_numpy(rng.random(len(ids))) < 0.5
    chosen = torch.where(salient[:, None], ids == objects[:, None], chosen & ordinary)
    tokens["input_ids"] = torch.where(chosen, tokenizer.mask_token_id, ids)
    return dict(tokens), chosen, ids[chosen]


def _tokenizer(world: World) -> Any:
    """Trains WordPiece on every sentence of the world; each object is a token of its own."""
    import tokenizers
    import transformers

    texts = documents(world) + [q for n in range(len(world.facts)) for q in world.questions(n)]
    texts += [s for n in range(len(world.facts)) for s in world.statements(n)]
    pieces = tokenizers.BertWordPieceTokenizer(lowercase=True)
    # The trainer of tokenizers 0.23 numbers continuing characters in the order of a hash table,
    # which differs between processes, and breaks ties by number. Listed first, they are in order.
    characters = sorted({f"##{character}" for character in "".join(texts).lower().replace(" ", "")})
    pieces.train_from_iterator(
        texts,
        vocab_size=1500,
        min_frequency=2,
        special_tokens=[*_SPECIAL, *characters],
        show_progress=False,
    )
    known = sorted(set(pieces.get_vocab()) - set(_SPECIAL))
    objects = {value.lower() for values in world.objects.values() for value in values}
    names = [*_SPECIAL, *known, *sorted(objects)]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    roles = {f"{name.strip('[]').lower()}_token": name for name in _SPECIAL}
    wrapper: Any = transformers.PreTrainedTokenizerFast
    return wrapper(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **roles)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    MaskedLM(model, tokenizer).write_weights(folder)


def optimizer_with_rates(parameters: Any, rate: float, steps: int) -> tuple[Any, Any]:
    """Returns AdamW, and its schedule: warm-up over a tenth of the steps, then linear decay."""
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, fused=True)
    schedule: Any = get_linear_schedule_with_warmup
    return optimizer, schedule(optimizer, max(1, steps // 10), steps)


def optimizer_step(optimizer: Any, rates: Any) -> None:
    """Updates weights and learning rate, and clears gradients."""
    optimizer.step()
    optimizer.zero_grad()
    rates.step()
