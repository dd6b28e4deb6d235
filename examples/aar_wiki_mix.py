"""Prepares AAR on Wikipedia passages: a small collection, test questions, and two readers.

    python examples/split_by_passage.py ../shared/data/wiki_mix/beir build/nq --split nq
    python examples/aar_wiki_mix.py ../shared/data/wiki_mix build/nq build/aar_wiki
    tilefold aar run --config examples/aar_wiki_mix.yaml

Writes the folder collection (questions of NQ to train on, 5,000 passages), nq.jsonl and popqa.jsonl
(test questions), and the folders source and larger: a T5 and a larger one, trained from random
weights on the SQuAD questions of the data and on sentences of its passages with a gap. A reader
takes about 12 minutes, and `aar run` as long again, on two cores.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from tilefold.data import Question, TrainingSet, read_collection, read_questions, read_training
from tilefold.models import FusionInDecoder, minilm

CHARACTERS = 500  # of a passage that AAR reads
CROP = 180  # of a passage in training
BATCH, SQUAD_SHARE = 32, 0.3
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# What a gap replaces: names and numbers.
SPAN = re.compile(r"[A-Z][\w'-]+(?: (?:of |the )?[A-Z][\w'-]+){0,3}|\d[\d,.]*\d|\d")
Example = tuple[str, str, str]  # question, passage, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with beir/ and answers.jsonl")
    parser.add_argument("nq", type=Path, help="its NQ questions, split by split_by_passage.py")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--steps", type=int, default=1200, help="of each reader (%(default)s)")
    parser.add_argument("--questions", type=int, default=520, help="to train on (%(default)s)")
    parser.add_argument("--passages", type=int, default=5000, help="at least (%(default)s)")
    args = parser.parse_args()

    tests = {"nq": (args.nq, "test"), "popqa": (args.data / "beir", "popqa")}
    judged = [judgments(folder, split) for folder, split in tests.values()]
    write_collection(args.nq, judged, args.out / "collection", args.questions, args.passages)
    answers = {one.id: one for one in read_questions(args.data / "answers.jsonl")}
    for name, (folder, split) in tests.items():
        write_questions(folder, split, answers, args.out / f"{name}.jsonl")

    squad = read_training(args.data / "beir", split="squad")
    squad = squad.with_answers(list(answers.values()))
    for seed, (name, width, layers) in enumerate((("source", 128, 2), ("larger", 160, 3))):
        if not (args.out / name / "config.json").is_file():
            reader = untrained(width, layers, seed)
            train(reader, examples(squad, seed), args.steps)
            reader.eval().write_weights(args.out / name)
        print(f"{args.out / name}: a T5 of width {width}")


def judgments(folder: Path, split: str) -> list[list[str]]:
    """Returns the rows of qrels: query, document, gain."""
    lines = (folder / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


def write_collection(
    folder: Path, tests: list[list[list[str]]], out: Path, questions: int, passages: int
) -> None:
    """Writes some training questions, all passages that are judged for any, and random others."""
    rng = random.Random(0)
    train = judgments(folder, "train")
    rng.shuffle(train)
    train = train[:questions]
    kept = {row[1] for rows in (train, *tests) for row in rows}
    corpus = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["_id"] for line in corpus]
    others = [name for name in names if name not in kept]
    rng.shuffle(others)
    kept.update(others[: max(0, passages - len(kept))])
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    lines = [f"{line}\n" for name, line in zip(names, corpus, strict=True) if name in kept]
    (out / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
    queries = (folder / "queries.jsonl").read_text(encoding="utf-8")
    (out / "queries.jsonl").write_text(queries, encoding="utf-8")
    rows = ["\t".join(row) + "\n" for row in train]
    path = out / "qrels" / "train.tsv"
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), encoding="utf-8")
    print(f"{out}: {len(train):,} questions, {len(lines):,} passages")


def write_questions(folder: Path, split: str, answers: dict[str, Question], path: Path) -> None:
    """Writes the questions of a split that have answers, in the form of PopQA."""
    collection = read_collection(folder, split)
    rows = [
        {"id": key, "question": text, "possible_answers": answers[key].answers}
        | dict(answers[key].metadata)
        for key, text in zip(collection.query_ids, collection.queries, strict=True)
        if key in answers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows):,} questions")


def examples(squad: TrainingSet, seed: int) -> Iterator[Example]:
    """Yields questions of SQuAD whose passage has the answer, and sentences with a gap."""
    rng = random.Random(seed)
    passages = [text[:CHARACTERS] for text in squad.documents]
    asked = [
        (question, passages[squad.positives.of(row)[0]], own[0])
        for row, (question, own) in enumerate(zip(squad.queries, squad.answers, strict=True))
        if own and own[0] in passages[squad.positives.of(row)[0]]
    ]
    while True:
        if rng.random() < SQUAD_SHARE:
            yield rng.choice(asked)
            continue
        passage = rng.choice(passages)
        sentence = rng.choice(SENTENCE_END.split(passage))
        spans = [span for span in SPAN.finditer(sentence) if span.start() > 0]
        if spans:
            span = rng.choice(spans)
            # Words are left out at random, and a gap that ends the sentence with them.
            around = f"{sentence[: span.start()]}what{sentence[span.end() :]}".split()
            kept = [word for word in around if word == "what" or rng.random() < 0.85]
            yield f"{' '.join(kept).rstrip('.')}?", passage, span.group()


def untrained(width: int, layers: int, seed: int) -> FusionInDecoder:
    """Returns a T5 with random weights and the vocabulary of MiniLM.

    A quarter of each word's embedding has the principal components of MiniLM's.
    """
    encoder = minilm()
    words: Any = encoder.model.get_input_embeddings()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=encoder.tokenizer.backend_tokenizer, model_max_length=512, **special
    )
    torch.manual_seed(seed)
    start: Any = {"decoder_start_token_id": 0, "dropout_rate": 0.0}
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=102,
        d_model=width,
        d_kv=width // 4,
        d_ff=4 * width,
        num_heads=4,
        num_layers=layers,
        **start,
    )
    model: Any = transformers.T5ForConditionalGeneration(config)
    reader = FusionInDecoder(model, tokenizer, max_length=512)
    weight = model.get_input_embeddings().weight
    known = words.weight.detach()
    centred = known - known.mean(0)
    components = centred @ torch.pca_lowrank(centred, q=width // 4, niter=4)[2]
    scale = weight.detach().std()
    weight.data[:, : width // 4] = scale * components / components.std()
    return reader


def train(reader: FusionInDecoder, source: Iterator[Example], steps: int) -> None:
    """Trains a reader to answer from a crop of the passage and perhaps of another one."""
    rng = random.Random(0)
    words = list(reader.model.get_input_embeddings().parameters())
    others = [weight for weight in reader.parameters() if weight is not words[0]]
    groups = [{"params": words, "lr": 1e-3}, {"params": others, "lr": 2e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 200) * max(0.02, 1 - step / steps)
    )
    reader.train()
    last: list[float] = []
    for step in range(steps):
        batch = [next(source) for _ in range(BATCH)]
        prompts: list[Any] = []
        for row, (question, passage, answer) in enumerate(batch):
            read = [crop(passage, answer, rng)]
            if step > steps // 2 and rng.random() < 0.5:
                read.append(crop(batch[row - 1][1], "", rng))
                rng.shuffle(read)
            # The prompt of PopQA, as the target LMs of AAR read it.
            prompts.append([f"{text}Q: {question} A:" for text in read])
        loss = reader.loss(prompts, [answer for _, _, answer in batch])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        last.append(float(loss.detach()))
        if step % 100 == 99:
            print(f"  step {step + 1:,}: loss {sum(last) / len(last):.2f}", flush=True)
            last.clear()


def crop(passage: str, answer: str, rng: random.Random) -> str:
    """Returns a part of a passage that has the answer."""
    if len(passage) <= CROP:
        return passage
    at = passage.find(answer) if answer else rng.randrange(len(passage) - CROP + 1)
    low, high = max(0, at + len(answer) - CROP), min(at, len(passage) - CROP)
    begin = rng.randint(low, high) if high >= low else at
    return passage[begin : begin + CROP]


if __name__ == "__main__":
    main()
