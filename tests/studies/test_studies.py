"""Texts that studies draw, and the models that their steps depend on."""

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

import torch
import transformers

from tilefold.data import TrainingSet
from tilefold.models import BiEncoder
from tilefold.ragged_lists import Lists
from tilefold.studies.neurons import NeuronSettings
from tilefold.studies.neurons.drawn_texts import draw_queries
from tilefold.studies.neurons.fact_neurons import dependencies
from tilefold.studies.neurons.knock_out import draw_candidates
from tilefold.studies.subject import Subject
from tilefold.world import make_world


def asking(*sizes: int) -> TrainingSet:
    """So many queries for each passage."""
    positives = [[place] for place, size in enumerate(sizes) for _ in range(size)]
    texts = [f"q{row}" for row in range(len(positives))]
    passages = [f"p{place}" for place in range(len(sizes))]
    none = Lists.pack([[]] * len(positives))
    parts = texts, texts, passages, passages, Lists.pack(positives), none
    return TrainingSet(*parts, [()] * len(positives))


@pytest.mark.parametrize(
    ("sizes", "n", "groups", "rows"),
    [
        ((6, 1, 1, 1), 5, 1, 5),  # four of the six, and one other
        ((6, 1, 1, 1), 9, 1, 7),  # never the other two of the six
        ((3, 3, 1), 4, 1, 4),  # the second group does not fit, nor do any of it
        ((4, 4), 2, 0, 2),  # no group fits: one query of each
        ((1, 1, 1), 2, 0, 2),
    ],
)
def test_no_query_asks_for_what_a_group_asks_for(sizes, n, groups, rows):
    data = asking(*sizes)
    for seed in range(5):
        drawn, found = draw_queries(Subject("s", {}, data), n, seed)
        passages = [int(data.positives.of(row)[0]) for row in drawn]
        assert len(set(drawn.tolist())) == len(drawn) == rows
        assert len(found) == groups
        grouped = {row for group in found for row in group}
        for group in found:
            assert len({passages[row] for row in group}) == 1
        alone = [passages[row] for row in range(rows) if row not in grouped]
        assert len(alone) == len(set(alone))
        assert not set(alone) & {passages[row] for row in grouped}


def test_queries_to_which_all_passages_are_relevant_choose_no_neurons():
    """The others are asked with as many passages each, of which the first is relevant."""
    texts = ["q0", "q1", "q2"]
    passages = [f"p{place}" for place in range(4)]
    relevant, hard = [[0, 1, 2, 3], [1], [2, 0]], [[], [3], []]
    parts = texts, texts, passages, passages, Lists.pack(relevant), Lists.pack(hard)
    found = draw_candidates(TrainingSet(*parts, [()] * 3), 4, seed=0)
    assert list(found) == [1, 2]
    assert found[1][0] == 1
    assert found[2][0] == 2
    assert found[1][1] == 3  # a hard negative comes first
    assert {len(shown) for shown in found.values()} == {3}
    assert all(len(set(shown)) == 3 for shown in found.values())
    assert not {0, 2} & set(found[2][1:])


def test_steps_depend_on_the_query_encoder(tiny_bert, tmp_path):
    """Encoders of queries may differ where those of passages do not."""
    one, other = (BiEncoder.from_pretrained(tiny_bert, tied=False) for _ in range(2))
    other.query_encoder.model.embeddings.word_embeddings.weight.data += 1
    subject = Subject("both", {"one": one, "other": other}, None)
    assert subject.fingerprints("one")[0] == subject.fingerprints("other")[0]
    assert subject.fingerprints("one")[1] != subject.fingerprints("other")[1]


def test_steps_do_not_depend_on_a_pooler_that_no_checkpoint_has(tiny_bert, tmp_path):
    """It is random and not used: steps of a masked language model are found again."""
    config = transformers.AutoConfig.from_pretrained(tiny_bert)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    found, poolers = [], []
    for seed in range(2):
        torch.manual_seed(seed)
        model = BiEncoder.from_pretrained(tmp_path)
        poolers.append(model.query_encoder.model.pooler.dense.weight)
        found.append(Subject("s", {"base": model}, None).fingerprints("base"))
    assert not torch.equal(*poolers)
    assert found[0] == found[1]


def test_steps_of_facts_depend_on_the_words_of_prompts_and_on_the_masked_model(tiny_bert):
    world, models = make_world("tiny"), {"base": BiEncoder.from_pretrained(tiny_bert)}
    settings = NeuronSettings(world="tiny")

    def depends(world, name="bert", facts=(0, 1)):
        subject = Subject("s", models, None, world, Path(name))
        return dependencies(settings, subject, facts)

    facts = [world.facts[0]._replace(object="changed"), *world.facts[1:]]
    others = [depends(dataclasses.replace(world, facts=facts)), depends(world, "dpr")]
    others.append(depends(world, facts=(0, 2)))
    assert depends(make_world("tiny")) == depends(world)
    assert depends(world) not in others
