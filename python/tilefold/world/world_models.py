"""Models of a world: a BERT that was told the exposed facts, and retrievers that grow from it.

They are made once and kept in a folder whose name is a digest of all that they depend on.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..files.published_folder import written_aside
from ..losses import ContrastiveLoss
from ..models import BiEncoder
from ..models.checkpoints.encoder_settings import FILE
from ..models.checkpoints.weights import quiet
from ..train import ContrastiveObjective, Draw, train_step
from ..world import facts as _facts
from ..world import names as _names
from ..world import relations as _relations
from ..world import retrieval_data as _texts
from .facts import World
from .retrieval_data import documents, training_set

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LENGTH = 128  # tokens


def cache_folder() -> Path:
    """Where models are kept: TILEFOLD_CACHE, or a folder of the user's cache."""
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
    """A BERT of 4 layers and 128 dimensions that was told the exposed facts, by masked words.

    Each pass over the facts says every exposed one in three of its six ways. Half of the sentences
    hide the object, as salient spans (Guu et al., "REALM", 2020, section 3.4); of the others 15 %
    of tokens are hidden. Facts that are not exposed are never said; their words are known.

    Args:
        world: what it is told.
        steps, batch_size, learning_rate: of AdamW, with a linear schedule after a tenth of
            warm-up. A small world is known then (the right word has a probability of 0.9).
        seed: of weights, order and masks.
        folder: where models are kept; `cache_folder()` by default.

    Returns:
        A folder for `AutoModelForMaskedLM` and `BiEncoder.from_pretrained`.
    """
    options = {"steps": steps, "batch_size": batch_size, "rate": learning_rate, "seed": seed}
    return _kept(world, "bert", options, folder, lambda to: _pretrain(world, options, to))


def fine_tuned(
    world: World,
    base: str | Path,
    facts: Sequence[int],
    *,
    epochs: int = 8,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Path:
    """A retriever from a checkpoint by DPR's recipe: in-batch negatives and one hard negative.

    Args:
        world: whose questions and passages.
        base: a checkpoint, such as of `pretrained`; its first token is the embedding.
        facts: what it is trained on; three questions about each.
        epochs, batch_size, learning_rate: of AdamW, with a linear schedule after a tenth of
            warm-up.
        seed: of batches and dropout.
        folder: where models are kept; `cache_folder()` by default.

    Returns:
        A folder for `BiEncoder.from_pretrained`.
    """
    options = {
        "base": _digest_of(Path(base)),
        "facts": list(map(int, facts)),
        "epochs": epochs,
        "batch_size": batch_size,
        "rate": learning_rate,
        "seed": seed,
    }
    return _kept(world, "dpr", options, folder, lambda to: _fine_tune(world, base, options, to))


def _kept(
    world: World,
    kind: str,
    options: dict[str, Any],
    folder: str | Path | None,
    make: Callable[[Path], None],
) -> Path:
    """The folder of what was made before, or `make` makes it."""
    modules = _facts, _names, _relations, _texts, sys.modules[__name__]
    code = "".join(inspect.getsource(module) for module in modules)
    asked = json.dumps([code, world.size, world.seed, [f.exposed for f in world.facts], options])
    digest = hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()
    place = (cache_folder() if folder is None else Path(folder)) / "world"
    path = place / f"{kind}-{world.size}-{digest}"
    if not path.is_dir():
        with written_aside(path, FILE) as partial:
            make(partial)
    return path


def _digest_of(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# ---- pre-training --------------------------------------------------------------------------------


def _pretrain(world: World, options: dict[str, Any], folder: Path) -> None:
    import transformers

    tokenizer = _tokenizer(world)
    torch.manual_seed(options["seed"])
    model = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=_LENGTH,
            hidden_dropout_prob=0.0,  # it is too small to have anything to spare
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    told = [n for n, fact in enumerate(world.facts) if fact.exposed]
    if not told:  # it has never heard of anything
        _save(model, tokenizer, folder)
        return
    optimizer, rates = _optimizer(model, options["rate"], options["steps"])
    rng = np.random.default_rng([options["seed"], 3])
    sentences = _sentences(world, told, rng)
    model.train()
    with _bar(options["steps"], f"pre-train on {len(told):,} facts") as bar:
        for _ in range(options["steps"]):
            batch = list(itertools.islice(sentences, options["batch_size"]))
            tokens, hidden, words = _masked(tokenizer, batch, rng)
            states = model.bert(**tokens).last_hidden_state[hidden]
            loss = F.cross_entropy(model.cls(states), words)  # scores of what is hidden alone
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            _step(optimizer, rates)
            bar.set_postfix(loss=f"{float(loss.detach()):.2f}", refresh=False)
            bar.update()
    _save(model, tokenizer, folder)


def _sentences(
    world: World, told: Sequence[int], rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    """Statements without end, pass after pass in another order, each with its object."""
    while True:
        said = []
        for number in told:
            ways = world.statements(number)
            for way in rng.permutation(len(ways))[: len(ways) // 2]:
                said.append((ways[int(way)], world.facts[number].object))
        for place in rng.permutation(len(said)):
            yield said[place]


def _masked(
    tokenizer: Any, batch: Sequence[tuple[str, str]], rng: np.random.Generator
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Tokens with some hidden, where these are, and what they were."""
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
    """WordPiece over every sentence that there is; each object is a token of its own."""
    import tokenizers
    import transformers

    texts = documents(world) + [q for n in range(len(world.facts)) for q in world.questions(n)]
    texts += [s for n in range(len(world.facts)) for s in world.statements(n)]
    pieces = tokenizers.BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(
        texts, vocab_size=1500, min_frequency=2, special_tokens=_SPECIAL, show_progress=False
    )
    known = pieces.get_vocab()
    objects = {value.lower() for values in world.objects.values() for value in values}
    names = [*_SPECIAL, *sorted(known, key=lambda token: known[token]), *sorted(objects)]
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
    return wrapper(tokenizer_object=tokenizer, model_max_length=_LENGTH, **roles)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# ---- fine-tuning ---------------------------------------------------------------------------------


def _fine_tune(world: World, base: str | Path, options: dict[str, Any], folder: Path) -> None:
    data = training_set(world, options["facts"], seed=options["seed"])
    torch.manual_seed(options["seed"])
    model = BiEncoder.from_pretrained(base, pooling="cls", normalize=False, max_length=_LENGTH)
    objective = ContrastiveObjective(model, ContrastiveLoss(1.0))
    size = options["batch_size"]
    steps = options["epochs"] * (len(data) // size)
    optimizer, rates = _optimizer(objective, options["rate"], steps)
    draw = Draw(data, group_size=2, seed=options["seed"])
    rng = np.random.default_rng([options["seed"], 4])
    objective.train()
    epochs = (rng.permutation(len(data)) for _ in range(options["epochs"]))
    batches = (rows for epoch in epochs for rows in _whole(epoch, size))
    with _bar(steps, f"fine-tune on {len(data):,} questions") as bar:
        for step, rows in enumerate(batches):
            loss = train_step(objective, draw.batch(rows, step=step)).value
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            _step(optimizer, rates)
            bar.set_postfix(loss=f"{float(loss.detach()):.2f}", refresh=False)
            bar.update()
    model.eval().save_pretrained(folder)


def _whole(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Batches of one size; what is left over waits for the next epoch's order."""
    return np.split(order[: len(order) // size * size], len(order) // size)


def _optimizer(model: torch.nn.Module, rate: float, steps: int) -> tuple[Any, Any]:
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, fused=True)
    schedule: Any = get_linear_schedule_with_warmup
    return optimizer, schedule(optimizer, max(1, steps // 10), steps)


def _step(optimizer: Any, rates: Any) -> None:
    optimizer.step()
    optimizer.zero_grad()
    rates.step()


def _bar(steps: int, what: str) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=steps, desc=what, disable=None, leave=False, dynamic_ncols=True)
