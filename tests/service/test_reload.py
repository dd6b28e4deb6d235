"""Reloads: a whole new index replaces the old one, a broken one does not; no request notices."""

import asyncio
import shutil

import numpy as np
import pytest
from service_client import HashEncoder, random_vectors, saved_index, serving, slot_of

from tilefold.retrieval.corpus import save_index
from tilefold.retrieval.encode_shards import encode_shards
from tilefold.service import IndexSlot, open_served
from tilefold.service.served_index import served_fingerprint


def served(folder, ask, **options):
    async def main():
        async with serving(slot_of(folder, **options)) as client:
            return await asyncio.wait_for(ask(client), 60)

    return asyncio.run(main())


def reload(client):
    return client.ask("POST", "/reload")


def break_folder(folder):
    """Saves another index, and flips a bit of its vectors."""
    saved_index(folder, rows=40, seed=3)
    path = next(folder.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def test_a_reload_replaces_the_index(tmp_path):
    folder = saved_index(tmp_path / "index", rows=10)

    async def ask(client):
        unchanged = await reload(client)
        saved_index(folder, rows=70, seed=5)
        return unchanged, await reload(client), await client.ask("GET", "/metrics")

    unchanged, replaced, metrics = served(folder, ask)
    assert unchanged.json["outcomes"] == ["unchanged"]
    assert replaced.json["outcomes"] == ["replaced"]
    assert replaced.json["indexes"][0]["documents"] == 70
    assert replaced.json["indexes"][0]["generation"] == 2
    assert 'tilefold_reloads_total{outcome="replaced"} 1.0' in metrics.body.decode()
    assert 'tilefold_index_generation{index="0"} 2.0' in metrics.body.decode()


@pytest.mark.parametrize("broken", [break_folder, shutil.rmtree])
def test_a_broken_folder_keeps_the_old_index_and_says_so(tmp_path, broken, caplog):
    folder = saved_index(tmp_path / "index", rows=10)
    body = {"vectors": random_vectors(1).tolist(), "k": 3}

    async def ask(client):
        before = await client.search(**body)
        broken(folder)
        answers = [await reload(client), await client.search(**body)]
        answers += [await client.ask("GET", path) for path in ("/health", "/ready", "/metrics")]
        shutil.rmtree(folder, ignore_errors=True)
        saved_index(folder, rows=30, seed=2)
        return before, answers, await reload(client), await client.ask("GET", "/health")

    before, answers, repaired, healthy = served(folder, ask)
    failed, after, health, ready, metrics = answers
    assert failed.status == 409
    assert failed.json["outcomes"] == ["failed"]
    assert failed.json["indexes"][0]["reload_error"]
    assert after.json == before.json
    assert health.json == {"status": "degraded", "generations": [1]}
    assert ready.status == 200
    assert 'tilefold_index_reload_failed{index="0"} 1.0' in metrics.body.decode()
    assert "kept generation 1" in caplog.text
    assert repaired.json["outcomes"] == ["replaced"]
    assert healthy.json == {"status": "ok", "generations": [2]}


def test_requests_are_of_one_generation_and_none_fails_while_indexes_are_replaced(tmp_path):
    """The ids of a request are those of the generation that the answer names."""
    folder = tmp_path / "index"
    sizes = [50, 60, 70, 80]
    queries = random_vectors(3, 9)
    expected = {}
    for size in sizes:
        index = slot_of(saved_index(tmp_path / f"copy{size}", rows=size, seed=size)).current
        expected[index.fingerprint] = index.index.search(queries, 5).ids.tolist()
    shutil.copytree(tmp_path / f"copy{sizes[0]}", folder)

    async def ask(client):
        answers, ended = [], asyncio.Event()

        async def search():
            while not ended.is_set():
                answers.append(await client.search(vectors=queries.tolist(), k=5))

        searching = [asyncio.ensure_future(search()) for _ in range(8)]
        for turn in range(12):
            size = sizes[(turn + 1) % len(sizes)]
            source = tmp_path / f"copy{size}"
            await asyncio.to_thread(replace_by_copy, source, folder)
            assert (await reload(client)).json["outcomes"] == ["replaced"]
        ended.set()
        await asyncio.gather(*searching)
        return answers

    answers = served(folder, ask)
    assert {answer.status for answer in answers} == {200}
    seen = {answer.json["index"]["fingerprint"] for answer in answers}
    assert len(seen) == len(sizes)
    for answer in answers:
        assert answer.json["ids"] == expected[answer.json["index"]["fingerprint"]]


def replace_by_copy(source, folder):
    """Moves a copy to the place of a folder, as a deployment does."""
    aside, old = folder.with_name("aside"), folder.with_name("old")
    shutil.copytree(source, aside)
    folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old)


def test_a_request_that_waits_is_answered_by_the_index_it_was_checked_for(tmp_path):
    """The next generation has another dim: vectors of the old one would not fit it."""
    import tilefold

    folder = saved_index(tmp_path / "index", rows=10)

    async def ask(client):
        search = asyncio.ensure_future(client.search(vectors=random_vectors(1).tolist()))
        await asyncio.sleep(0)
        index = tilefold.FlatIndex(7)
        index.add(random_vectors(5, dim=7))
        shutil.rmtree(folder)
        index.save(folder)
        await reload(client)
        refused = await client.search(vectors=random_vectors(1).tolist())
        taken = await client.search(vectors=random_vectors(1, dim=7).tolist())
        return await search, refused, taken

    first, refused, taken = served(folder, ask)
    assert first.status == 200
    assert refused.error == "search: vectors[0] has dim 24 but documents have dim 7"
    assert taken.status == 200


def encoded(folder, names, seed=0, model=None):
    vectors = random_vectors(len(names), seed)
    list(encode_shards(lambda texts: vectors[: len(texts)], names, names, folder, model=model))
    return folder


def test_shards_and_their_index_are_served_alike(tmp_path):
    shards = encoded(tmp_path / "shards", ["a", "b", "c"])
    save_index(tmp_path / "index", shards)
    both = [open_served(folder) for folder in (shards, tmp_path / "index")]
    queries = random_vectors(4, 8)
    first, second = (one.search(queries, 3) for one in both)
    assert first.ids.tobytes() == second.ids.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()
    assert both[0].names == both[1].names == ["a", "b", "c"]
    assert both[0].fingerprint != both[1].fingerprint


def test_shards_that_are_replaced_do_not_change_what_is_served(tmp_path):
    shards = encoded(tmp_path / "shards", ["a", "b", "c"])
    one = open_served(shards)
    before = one.search(random_vectors(2, 8), 3)
    shutil.rmtree(shards)
    encoded(shards, ["a", "b", "c"], seed=4)
    after = one.search(random_vectors(2, 8), 3)
    assert before.scores.tobytes() == after.scores.tobytes()
    assert served_fingerprint(shards) != one.fingerprint


def test_a_model_that_did_not_encode_the_documents_is_refused(tmp_path):
    shards = encoded(tmp_path / "shards", ["a"], model={"name": "other", "weights": "other"})
    with pytest.raises(ValueError, match="was encoded by model other with weights other"):
        open_served(shards, encoder=HashEncoder().query_encoder())
    plain = saved_index(tmp_path / "index")
    with pytest.raises(ValueError, match="has vectors of dim 24, but model hash has dim 5"):
        open_served(plain, encoder=HashEncoder(5).query_encoder())


def test_texts_have_to_be_those_of_the_documents(tmp_path):
    from tilefold.data import Documents

    shards = encoded(tmp_path / "shards", ["a", "b"])
    with pytest.raises(ValueError, match="the texts lack document 'b'"):
        open_served(shards, documents=Documents(["a"], ["text"]))
    with pytest.raises(ValueError, match="an index without names"):
        open_served(saved_index(tmp_path / "index"), documents=Documents(["a"], ["text"]))
    found = open_served(shards, documents=Documents(["x", "b", "a"], ["0", "1", "2"]))
    assert found.documents.texts == ["2", "1"]


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    import tilefold.service.served_index as module

    folder = saved_index(tmp_path / "index", rows=5)
    fingerprints = iter(["before", "after", "same", "same"])
    monkeypatch.setattr(module, "served_fingerprint", lambda root: next(fingerprints))
    assert open_served(folder).fingerprint == "same"
    changing = map(str, range(100))
    monkeypatch.setattr(module, "served_fingerprint", lambda root: next(changing))
    with pytest.raises(ValueError, match="was replaced 3 times while it was read"):
        open_served(folder)


def test_reloads_run_one_at_a_time(tmp_path):
    folder = saved_index(tmp_path / "index", rows=5)
    opened = []

    def open_index():
        opened.append(1)
        return open_served(folder)

    async def main():
        slot = IndexSlot(open_index, lambda: served_fingerprint(folder))
        saved_index(folder, rows=6, seed=1)
        return await asyncio.gather(*(slot.reload() for _ in range(5)))

    outcomes = asyncio.run(main())
    assert outcomes == ["replaced", *["unchanged"] * 4]
    assert len(opened) == 2


def test_vectors_that_are_served_are_those_on_disk(tmp_path):
    one = open_served(saved_index(tmp_path / "index", rows=12))
    assert np.array_equal(one.index.reconstruct([3]), random_vectors(12)[[3]])
