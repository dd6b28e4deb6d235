"""Readers and the retriever of a world of registers: trained once, kept, and of use."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold.models import BiEncoder, CausalLM, FusionInDecoder
from tilefold.world.reader_models import Reader, untrained_reader, word_tokenizer
from tilefold.world.reading_lessons import (
    LessonShares,
    LessonWriter,
    concatenated_prompt,
    fused_prompt,
)
from tilefold.world.reading_retriever import judged_retriever
from tilefold.world.reading_world import judged_training_set, make_reading_world
from tilefold.world.world_readers import READERS, trained_reader

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Reader("t5", 16, 1, 2, LessonShares(), steps=3, batch_size=4)
TINY_CAUSAL = TINY._replace(family="llama")


@pytest.fixture(scope="module")
def world():
    return make_reading_world("tiny", seed=0)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def test_every_word_of_the_world_is_one_token(world):
    tokenizer = word_tokenizer(world)
    texts = world.texts() + [q for n in range(len(world.facts)) for q in world.questions(n)]
    texts += [" ".join(fused_prompt(text)) for text in texts[:5]]
    ids = [i for row in tokenizer(texts)["input_ids"] for i in row]
    assert tokenizer.unk_token_id not in ids
    for some in world.objects.values():
        for name in some:
            assert len(tokenizer(name)["input_ids"]) == 1
            assert tokenizer.decode(tokenizer(name)["input_ids"]) == name.lower()


def test_words_of_lessons_are_in_the_vocabulary(world):
    tokenizer = word_tokenizer(world)
    shares = LessonShares(crowded=0.25, corrected=0.25, archaic=0.25)
    writer = LessonWriter(world, shares, seed=1)
    for _ in range(200):
        lesson = writer.lesson()
        prompt = concatenated_prompt(lesson.question, lesson.passages)
        assert tokenizer.unk_token_id not in tokenizer(prompt)["input_ids"]


@pytest.mark.parametrize("reader", [TINY, TINY_CAUSAL], ids=lambda reader: reader.family)
def test_a_reader_is_trained_once_and_is_the_same_for_the_same_seed(world, kept, tmp_path, reader):
    folder = trained_reader(world, "own", reader=reader, folder=kept)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert trained_reader(world, "own", reader=reader, folder=kept) == folder
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = trained_reader(world, "own", reader=reader, folder=tmp_path)
    assert again.name == folder.name
    kind = FusionInDecoder if reader.family == "t5" else CausalLM
    one, other = (kind.from_pretrained(path) for path in (folder, again))
    assert one.fingerprint() == other.fingerprint()
    third = trained_reader(world, "own", reader=reader, seed=1, folder=tmp_path)
    assert kind.from_pretrained(third).fingerprint() != one.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"width": 32},
        {"layers": 2},
        {"steps": 4},
        {"batch_size": 5},
        {"learning_rate": 1e-3},
        {"embedding_rate": 1e-3},
    ],
    ids=str,
)
def test_every_setting_makes_another_reader(world, kept, change):
    paths = {
        trained_reader(world, "own", reader=reader, folder=kept)
        for reader in (TINY, TINY._replace(**change))
    }
    assert len(paths) == 2


def test_readers_that_are_not_known_are_refused(world, kept):
    with pytest.raises(ValueError, match=r"name must be one of source, .*'large'"):
        trained_reader(world, "large", folder=kept)
    with pytest.raises(ValueError, match="family must be t5 or llama, got 'gpt'"):
        trained_reader(world, "own", reader=TINY._replace(family="gpt"), folder=kept)


def test_readers_differ_in_size_and_one_in_architecture():
    widths = [READERS[name].width for name in ("smaller", "source", "larger")]
    assert widths == sorted(set(widths))
    assert [name for name, reader in READERS.items() if reader.family != "t5"] == ["causal"]


@pytest.mark.slow  # half a minute of training
def test_a_reader_answers_from_plain_passages_and_not_from_memory(kept):
    world = make_reading_world("tiny", seed=0, exposed=0.0)
    reader = Reader("t5", 64, 2, 4, LessonShares(), 400)
    model = FusionInDecoder.from_pretrained(
        trained_reader(world, "own", reader=reader, folder=kept)
    )
    facts = range(len(world.facts))
    questions = [world.questions(fact)[0] for fact in facts]
    plain = [[world.passages[world.about(fact, ["plain"])[0]].text] for fact in facts]
    right = {}
    for name, passages in (("read", plain), ("closed", [[]] * len(questions))):
        prompts = [fused_prompt(q, p) for q, p in zip(questions, passages, strict=True)]
        answers = model.generate(prompts, max_new_tokens=2)
        golds = [world.facts[fact].object.lower() for fact in facts]
        right[name] = np.mean([a == b for a, b in zip(answers, golds, strict=True)])
    assert right["read"] > 0.9
    assert right["closed"] < 0.2


def test_the_retriever_finds_judged_passages_that_it_was_trained_on(world, kept):
    facts = list(range(0, len(world.facts), 2))
    options = {"width": 32, "layers": 1, "folder": kept}
    ranks = []
    data = judged_training_set(world, facts, paraphrases=(0,))
    for epochs in (1, 8):
        folder = judged_retriever(world, facts, epochs=epochs, learning_rate=2e-3, **options)
        model = BiEncoder.from_pretrained(folder)
        queries = model.encode_queries(data.queries, progress=False)
        documents = model.encode_documents(data.documents, progress=False)
        scores = queries @ documents.T
        own = scores[np.arange(len(data)), data.positives.indices]
        ranks.append(np.median((scores > own[:, None]).sum(1)))
    assert ranks[1] < 10
    assert ranks[1] < ranks[0]
    with pytest.raises(ValueError, match="expected one fact or more"):
        judged_retriever(world, [], folder=kept)


@pytest.mark.parametrize("reader", [TINY, TINY_CAUSAL], ids=lambda reader: reader.family)
def test_before_training_equal_words_attend_to_each_other_and_words_are_copied(world, reader):
    torch.manual_seed(0)
    model = untrained_reader(world, reader._replace(width=64)).model
    names = {"q": ("q", "k", "v", "o"), "q_proj": ("q_proj", "k_proj", "v_proj", "o_proj")}
    words = torch.randn(50, 64)
    layers = [m for m in model.modules() if any(hasattr(m, name) for name in names)]
    assert len(layers) == (3 if reader.family == "t5" else 1)
    with torch.no_grad():
        for layer in layers:
            (own,) = (names[name] for name in names if hasattr(layer, name))
            query, key, value, output = (getattr(layer, name) for name in own)
            if torch.equal(query.weight, key.weight):  # self-attention
                logits = query(words) @ key(words).T
                assert (logits.argmax(1) == torch.arange(50)).all()
            copied = output(value(words)) @ words.T
            assert (copied.argmax(1) == torch.arange(50)).all()
    matching = [
        torch.equal(*(getattr(m, n).weight for n in names[k][:2]))
        for m in layers
        for k in names
        if hasattr(m, k)
    ]
    assert sum(matching) == (2 if reader.family == "t5" else 1)
