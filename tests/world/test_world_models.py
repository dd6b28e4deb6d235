"""Models of a world: exposed facts are known, others are not, and models are kept."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold.evaluate import evaluate
from tilefold.models import BiEncoder, MaskedLM
from tilefold.retrieval.exact_search import search
from tilefold.world import make_world
from tilefold.world.retrieval_data import collection, split_facts
from tilefold.world.world_models import pretrained
from tilefold.world.world_retrievers import fine_tuned

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture(scope="module")
def world():
    return make_world("tiny", seed=0, exposed=0.25)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def bert(world, kept):
    return pretrained(world, steps=400, folder=kept)


def probability_of_objects(world, folder, facts):
    """The right object's among all of its relation, in the first cloze."""
    model = MaskedLM.from_pretrained(folder)
    found = []
    for number in facts:
        fact = world.facts[number]
        candidates = [value.lower() for value in world.objects[fact.relation]]
        options = {"candidates": candidates}
        found.append(
            model.probabilities([world.clozes(number)[0]], [fact.object.lower()], **options)
        )
    return np.concatenate(found)


def test_exposed_facts_are_known_and_others_are_not(world, bert):
    exposed = [n for n, fact in enumerate(world.facts) if fact.exposed]
    others = [n for n, fact in enumerate(world.facts) if not fact.exposed]
    known, unknown = (probability_of_objects(world, bert, some) for some in (exposed, others))
    assert known.mean() > 0.6
    assert unknown.mean() < 0.2


def test_a_model_that_was_made_is_kept(world, bert, kept):
    before = {path: path.stat().st_mtime_ns for path in bert.rglob("*") if path.is_file()}
    assert pretrained(world, steps=400, folder=kept) == bert
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert pretrained(make_world("tiny", exposed=0.0), steps=400, folder=kept) != bert


def test_a_retriever_grows_from_it(world, bert, kept):
    train, evaluation = split_facts(world)
    retriever = fine_tuned(world, bert, train, epochs=6, folder=kept)
    questions = collection(world, evaluation)
    scores = []
    for folder in (bert, retriever):
        model = BiEncoder.from_pretrained(folder, pooling="cls", normalize=False)
        queries = model.encode_queries(questions.queries, progress=False)
        documents = model.encode_documents(questions.documents, questions.titles, progress=False)
        found = search(queries, documents, 10)
        scores.append(evaluate(found.ids, questions.qrels, ["RR@10"])["RR@10"].mean())
    assert scores[1] > scores[0] + 0.1
