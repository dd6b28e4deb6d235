"""Writes facts of ParaRel as training data of a retriever: prompts, true and false statements.

    python examples/pararel.py ../shared/data/pararel/fact_bags.json build/pararel.jsonl

A query is a prompt with [MASK], its positive the fact stated by another pattern, and its hard
negatives the same sentence with objects of other facts of the relation, drawn with their frequency,
none of them known to be true of the subject: telling them apart takes knowledge of the fact. The
prompts of a fact are paraphrases.
"""

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

_PROMPTS = 4  # per fact
_NEGATIVES = 4  # per prompt
_MASK = "[MASK]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "bags", type=Path, help="JSON file of ParaRel: one list of patterns per fact"
    )
    parser.add_argument("out", type=Path, help="JSON lines to write")
    parser.add_argument("--facts", type=int, default=500, help="number of facts (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of draws (%(default)s)")
    args = parser.parse_args()

    bags = json.loads(args.bags.read_text())
    objects, true = defaultdict(list), defaultdict(set)
    for (statement, right, relation), *_ in bags:
        objects[relation].append(right)  # with its frequency among facts
        true[statement].add(right)  # a subject may have several objects, in a bag each
    rng = random.Random(args.seed)
    rng.shuffle(bags)
    usable = [
        bag
        for bag in bags
        if len(bag) > _PROMPTS and len({*objects[bag[0][2]]} - true[bag[0][0]]) >= _NEGATIVES
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w") as file:
        for bag in usable[: args.facts]:
            statement, right, relation = bag[0]
            wrong: list[str] = []
            while len(wrong) < _NEGATIVES:
                drawn = rng.choice(objects[relation])
                if drawn not in {*wrong, *true[statement]}:
                    wrong.append(drawn)
            for prompt, _, _ in bag[1 : 1 + _PROMPTS]:
                positive, *negatives = (statement.replace(_MASK, word) for word in (right, *wrong))
                record = {"query": prompt, "pos": [positive], "neg": negatives}
                file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
