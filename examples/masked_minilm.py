"""Trains a masked language model from MiniLM on statements of facts, so that facts can be edited.

    python examples/masked_minilm.py ../shared/data/pararel/orig build/masked-minilm
    tilefold mechanisms edit --model build/masked-minilm \
        --facts-from build/masked-minilm/facts.json --texts ../shared/data/wiki_mix/beir

MiniLM comes without the head of a masked language model. A new one, tied to the word embeddings, is
trained together with all blocks on the prompts of some facts, their objects masked; what the model
then knows of these facts is learned here, not from its pre-training.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import BertForMaskedLM, get_linear_schedule_with_warmup

from tilefold.data import read_facts
from tilefold.models import MaskedLM, minilm
from tilefold.progress import track

_ALSO_MASKED = 0.1  # share of the other tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("facts", type=Path, help="file or folder of tilefold.data.read_facts")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--n-facts", type=int, default=1500, help="number (%(default)s)")
    parser.add_argument("--prompts", type=int, default=6, help="of a fact (%(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="passes (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="statements (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of draws (%(default)s)")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    torch.manual_seed(args.seed)
    encoder = minilm()
    tokenizer = encoder.tokenizer
    model = BertForMaskedLM(encoder.model.config)
    model.bert.load_state_dict(encoder.model.state_dict(), strict=False)  # without its pooler
    model.tie_weights()

    facts = read_facts(args.facts)
    rng.shuffle(facts)
    usable = [
        fact
        for fact in facts
        if len(fact.prompts) >= args.prompts
        and len(tokenizer(fact.object.lower(), add_special_tokens=False)["input_ids"]) == 1
    ]
    statements = [
        (prompt.replace("[MASK]", tokenizer.mask_token), fact.object.lower())
        for fact in usable[: args.n_facts]
        for prompt in fact.prompts[: args.prompts]
    ]
    print(f"{len(statements):,} statements of {len(statements) // args.prompts:,} facts")

    steps = args.epochs * (len(statements) // args.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    rates = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    batches = []
    for _ in range(args.epochs):
        rng.shuffle(statements)
        whole = range(0, len(statements) - args.batch_size + 1, args.batch_size)
        batches += [statements[begin : begin + args.batch_size] for begin in whole]
    model.train()
    for batch in track(batches, "train"):
        texts, objects = zip(*batch, strict=True)
        tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        ids = tokens["input_ids"]
        is_object = ids == tokenizer.mask_token_id
        labels = torch.where(
            is_object, torch.tensor(tokenizer.convert_tokens_to_ids(objects))[:, None], -100
        )
        ordinary = ~is_object & (ids > tokenizer.mask_token_id)
        also = ordinary & (torch.rand(ids.shape) < _ALSO_MASKED)
        labels = torch.where(also, ids, labels)
        tokens["input_ids"] = torch.where(also, tokenizer.mask_token_id, ids)
        predicted = labels != -100
        states = model.bert(**tokens).last_hidden_state[predicted]
        loss = cross_entropy(model.cls(states), labels[predicted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
    MaskedLM(model.eval(), tokenizer).save_pretrained(args.out)
    # Bags as of ParaRel: the facts of the training, and as many others.
    bags = [
        [[prompt, fact.object, fact.relation] for prompt in fact.prompts[: args.prompts]]
        for fact in usable[: 2 * args.n_facts]
    ]
    (args.out / "facts.json").write_text(json.dumps(bags))
    print(f"wrote {args.out}, and facts.json in it: half of these facts were in the training")


if __name__ == "__main__":
    main()
