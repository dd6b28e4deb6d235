"""POST /search: answers, limits and refusals, without a network."""

import asyncio
import json
import threading

import numpy as np
import pytest
from service_client import DIM, HashEncoder, random_vectors, saved_index, serving, slot_of

import tilefold
from tilefold.data.documents import Documents
from tilefold.service import open_served, search_request
from tilefold.service.bearer_token import BearerToken
from tilefold.service.request_errors import sentence_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_index(tmp_path_factory.mktemp("service") / "index")


def run(folder, ask, *, encoder=None, **options):
    """Runs a coroutine of a client against a service of one index."""

    async def main():
        slot = slot_of(folder, encoder=encoder and encoder.query_encoder())
        async with serving(slot, **options) as client:
            return await asyncio.wait_for(ask(client), 60)

    return asyncio.run(main())


def searched(folder, body, **options):
    async def ask(client):
        return await client.ask("POST", "/search", body)

    return run(folder, ask, **options)


def vectors(rows=1, seed=1):
    return random_vectors(rows, seed).tolist()


def test_concurrent_requests_have_the_bits_of_flat_index_search(folder):
    """Requests with other k and filters run in the same batches; scores survive JSON exactly."""
    queries = random_vectors(120, 3)
    options = [
        {"k": 1 + i % 17}
        | ({"exclude": [[i, i + 1]]} if i % 3 == 0 else {})
        | ({"min_score": 0.5} if i % 5 == 0 else {})
        | ({"allowed": [*range(0, 500, 7)]} if i % 7 == 0 else {})
        for i in range(120)
    ]

    async def ask(client):
        one = [
            client.search(vectors=[query.tolist()], **option)
            for query, option in zip(queries, options, strict=True)
        ]
        answers = await asyncio.gather(*one)
        return answers, await client.ask("GET", "/metrics")

    answers, metrics = run(folder, ask)
    index = slot_of(folder).current.index
    for query, option, answer in zip(queries, options, answers, strict=True):
        scores, ids = index.search(query[None], **option)[:2]
        kept = ids[0] >= 0
        assert answer.json["ids"] == [ids[0][kept].tolist()]
        assert np.float32(answer.json["scores"][0]).tobytes() == scores[0][kept].tobytes()
    calls = metrics.body.decode().split("tilefold_batch_requests_count ")[1].split()[0]
    assert float(calls) < 20  # 120 requests


def test_an_answer_names_the_index_and_only_the_results_there_are(folder):
    answer = searched(folder, {"vectors": vectors(2), "k": 3, "allowed": [7, 9]})
    assert answer.status == 200
    assert answer.json["index"]["name"] == "index"
    assert [sorted(ids) for ids in answer.json["ids"]] == [[7, 9], [7, 9]]
    assert [len(scores) for scores in answer.json["scores"]] == [2, 2]
    assert "names" not in answer.json


def test_texts_are_encoded_by_the_model_of_the_index(folder):
    encoder = HashEncoder()
    texts = ["first", "second"]
    by_text = searched(folder, {"queries": texts, "k": 4}, encoder=encoder)
    by_vector = searched(folder, {"vectors": encoder(texts).tolist(), "k": 4})
    assert by_text.json == by_vector.json


NUMBER = 1.0
WRONG = {
    "neither": ({}, 422, "expected either queries or vectors, got neither"),
    "both": ({"vectors": [[NUMBER] * DIM], "queries": ["a"]}, 422, "queries or vectors, got both"),
    "null": ({"vectors": None}, 422, "vectors must be a list, got null"),
    "not an object": ([1], 422, "the body must be an object"),
    "no queries": ({"queries": []}, 422, "queries must have at least 1 entry, got a list of 0"),
    "blank": ({"queries": [" \t"]}, 422, "search: queries[0] is blank"),
    "empty text": ({"queries": [""]}, 422, "search: queries[0] is blank"),
    "a number for a text": ({"queries": [1]}, 422, "queries[0] must be a text, got 1"),
    "long text": ({"queries": ["a" * 101]}, 422, "queries[0] must have at most 100 characters"),
    "dim": ({"vectors": [[NUMBER] * 3]}, 422, "vectors[0] has dim 3 but documents have dim 24"),
    "second dim": (
        {"vectors": [[NUMBER] * DIM, [NUMBER]]},
        422,
        "vectors[1] has dim 1 but documents have dim 24",
    ),
    "a text for a number": (
        {"vectors": [["x"] * DIM]},
        422,
        "vectors[0][0] must be a number, got 'x'",
    ),
    "too many": ({"vectors": [[NUMBER] * DIM] * 9}, 422, "vectors must have at most 8 entries"),
    "k is 0": ({"vectors": [[NUMBER] * DIM], "k": 0}, 422, "k must be at least 1, got 0"),
    "k is -1": ({"vectors": [[NUMBER] * DIM], "k": -1}, 422, "k must be at least 1, got -1"),
    "huge k": ({"vectors": [[NUMBER] * DIM], "k": 10**30}, 422, "k must be "),
    "large k": ({"vectors": [[NUMBER] * DIM], "k": 51}, 422, "k must be at most 50, got 51"),
    "k is no integer": ({"vectors": [[NUMBER] * DIM], "k": 1.5}, 422, "k must be an integer"),
    "k is true": ({"vectors": [[NUMBER] * DIM], "k": True}, 422, "k must be an integer, got true"),
    "k is a text": ({"vectors": [[NUMBER] * DIM], "k": "5"}, 422, "k must be an integer, got '5'"),
    "unknown": (
        {"vectors": [[NUMBER] * DIM], "top_k": 5},
        422,
        "unknown field top_k; did you mean k?",
    ),
    "query": ({"query": "x"}, 422, "search: unknown field query; did you mean queries?"),
    "misspelt": ({"vector": [NUMBER] * DIM}, 422, "unknown field vector; did you mean vectors?"),
    "unlike any": ({"zzz": 1}, 422, "search: unknown field zzz"),
    "exclude": (
        {"vectors": [[NUMBER] * DIM], "exclude": [[1], [2]]},
        422,
        "exclude must have one list per query, 1, got 2",
    ),
    "negative id": (
        {"vectors": [[NUMBER] * DIM], "allowed": [-1]},
        422,
        "allowed[0] must be at least 0",
    ),
    "huge id": ({"vectors": [[NUMBER] * DIM], "allowed": [2**63]}, 422, "allowed[0] must be "),
    "index": ({"vectors": [[NUMBER] * DIM], "index": 1}, 422, "index must be at most 0, got 1"),
    "no model": ({"queries": ["a"]}, 422, "served without a model; expected vectors, got queries"),
    "huge number": ({"vectors": [[1e39] * DIM]}, 422, "vectors[0][0] must be at most 3.4"),
    "no JSON": (b"{'a': 1}", 400, "the body is not JSON"),
    "empty": (b"", 400, "the body is not JSON"),
    "no UTF-8": (b'{"queries": ["\xff"]}', 400, "the body is not JSON"),
    "half a surrogate pair": (b'{"queries": ["\\ud800"]}', 400, "the body is not JSON"),
    "deep": (b'{"queries": ' + b"[" * 60_000, 400, "the body is not JSON: recursion limit"),
    "NaN": (b'{"vectors": [[NaN]]}', 422, "vectors[0][0] must be a finite number, got nan"),
    "infinity": (b'{"vectors": [[-Infinity]]}', 422, "must be a finite number, got -inf"),
    "overflow": (b'{"vectors": [[1e999]]}', 422, "vectors[0][0] must be a finite number, got inf"),
}


@pytest.mark.parametrize(("body", "status", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_in_one_sentence(folder, body, status, message):
    limits = {"max_queries": 8, "max_k": 50, "max_query_chars": 100}
    answer = searched(folder, body, limits=limits)
    assert answer.status == status, answer.body
    assert answer.error.startswith("search: ")
    assert message in answer.error
    assert "\n" not in answer.error
    assert len(answer.error) < 300


def test_what_a_wrong_request_holds_is_clipped_and_escaped(folder):
    name = "\x1b[2J\r\nx-injected: 1" + "y" * 5000
    answer = searched(folder, {"vectors": vectors(), name: 1})
    assert answer.status == 422
    assert "\\x1b" in answer.error
    assert len(answer.error) < 200
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_a_body_beyond_the_limit_is_refused_before_it_is_read(folder, declared):
    async def ask(client):
        headers = {"content-length": "5000"} if declared else {}
        parts = [b"{}"] if declared else [b"[" * 700] * 99
        return await client.ask("POST", "/search", parts=parts, headers=headers)

    answer = run(folder, ask, limits={"max_body_bytes": 1000})
    assert answer.status == 413
    assert answer.error == "the body must have at most 1,000 bytes"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 400, "٣"])
def test_a_length_that_is_wrong_does_not_break_the_service(folder, length):
    async def ask(client):
        headers = {"content-length": length.encode().decode("latin-1")}
        return await client.ask("POST", "/search", {"vectors": vectors()}, headers=headers)

    assert run(folder, ask).status in (200, 413)


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_another_content_type_is_refused(folder, content_type):
    async def ask(client):
        headers = {"content-type": content_type}
        return await client.ask("POST", "/search", {"vectors": vectors()}, headers=headers)

    answer = run(folder, ask)
    assert answer.status == 415
    assert "application/json" in answer.error


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/search", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "/search", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "//search", 404),
        ("GET", "/docs/", 404),
    ],
)
def test_other_paths_and_methods_are_refused(folder, method, path, status):
    async def ask(client):
        return await client.ask(method, path)

    answer = run(folder, ask)
    assert answer.status == status
    assert "see /docs" in answer.error


def hold_search(folder, ask, **options):
    """Runs a coroutine while every search of the index waits for the event it is given."""

    async def main():
        slot, release = slot_of(folder), threading.Event()
        index = slot.current.index
        search = index.search

        def held(*args, **kwargs):
            assert release.wait(30)
            return search(*args, **kwargs)

        index.search = held
        async with serving(slot, **options) as client:
            try:
                return await asyncio.wait_for(ask(client, release), 60)
            finally:
                release.set()

    return asyncio.run(main())


def test_a_request_without_an_answer_in_time_gets_504_and_others_theirs(folder):
    async def ask(client, release):
        late = await client.search(vectors=vectors())
        release.set()
        return late, await client.search(vectors=vectors())

    late, next_one = hold_search(folder, ask, limits={"timeout": 0.3})
    assert late.status == 504
    assert late.error == "search: no answer within 0.3 seconds"
    assert next_one.status == 200


def test_a_body_that_does_not_arrive_gets_408(folder):
    async def ask(client):
        async def slow():
            return await client.ask("POST", "/search", parts=[b"{", b""])

        client_receive = client.app

        async def app(scope, receive, send):
            first = await receive()

            async def receive_once():
                nonlocal first
                if first is None:
                    await asyncio.Event().wait()
                message, first = first, None
                return message

            await client_receive(scope, receive_once, send)

        client.app = app
        return await slow()

    answer = run(folder, ask, limits={"timeout": 0.2})
    assert answer.status == 408


def test_a_full_queue_gets_503_and_a_time_to_come_back(folder):
    async def ask(client, release):
        tasks = [asyncio.ensure_future(client.search(vectors=vectors(4))) for _ in range(2)]
        while (await client.ask("GET", "/ready")).status == 200:
            await asyncio.sleep(0.01)
            tasks.append(asyncio.ensure_future(client.search(vectors=vectors(4))))
        full = await client.search(vectors=vectors(4))
        health = await client.ask("GET", "/health")
        release.set()
        return full, health, await asyncio.gather(*tasks)

    full, health, others = hold_search(folder, ask, limits={"max_queue": 8, "max_queries": 8})
    assert (full.status, full.headers["retry-after"]) == (503, "1")
    assert health.status == 200
    statuses = [answer.status for answer in others]
    assert statuses.count(200) >= 3
    assert set(statuses) <= {200, 503}


def test_a_client_that_leaves_does_not_break_its_batch(folder):
    async def ask(client, release):
        tasks = [asyncio.ensure_future(client.search(vectors=vectors())) for _ in range(12)]
        await asyncio.sleep(0.05)
        for task in tasks[::3]:
            task.cancel()
        release.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = hold_search(folder, ask)
    for i, answer in enumerate(answers):
        if i % 3 == 0:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert answer.status == 200


def test_two_indexes_are_named_by_number(folder, tmp_path):
    async def main():
        other = slot_of(saved_index(tmp_path / "other", rows=40, seed=9))
        async with serving(slot_of(folder), other) as client:
            return [await client.search(vectors=vectors(), index=i) for i in (0, 1, 2)]

    first, second, third = asyncio.run(main())
    assert [first.json["index"]["name"], second.json["index"]["name"]] == ["index", "other"]
    assert max(second.json["ids"][0]) < 40
    assert third.status == 422


def test_scores_beyond_float32_are_an_error_as_json_has_no_infinity(folder):
    rows = [[1.0] * DIM, [3e38] * DIM]
    answer = searched(folder, {"vectors": rows, "k": 3})
    assert answer.status == 422
    assert "scores of query 1 are beyond float32" in answer.error


def test_an_integer_may_be_written_as_json_schemas_allow(folder):
    body = {"vectors": vectors(), "k": 2.0, "allowed": [3.0, 4], "index": 0.0}
    assert sorted(searched(folder, body).json["ids"][0]) == [3, 4]


def test_a_small_request_cannot_ask_for_a_large_answer(folder):
    limits = {"max_results": 100, "max_texts": 20, "max_ids": 5}
    rows = vectors(6)
    for body, message in (
        ({"vectors": rows, "k": 17}, "queries x k must be at most 100, got 6 x 17"),
        (
            {"vectors": rows, "k": 4, "return_texts": True},
            "at most 20 with return_texts, got 6 x 4",
        ),
        (
            {"vectors": rows, "allowed": [1, 2], "exclude": [[1], [2], [3], [4], [], []]},
            "allowed and exclude must have at most 5 ids together, got 6",
        ),
    ):
        answer = searched(folder, body, limits=limits)
        assert answer.status == 422
        assert message in answer.error
    assert searched(folder, {"vectors": rows, "k": 16}, limits=limits).status == 200


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_small_index_answers_with_what_it_has(tmp_path, rows):
    answer = searched(saved_index(tmp_path / "index", rows=rows), {"vectors": vectors(2), "k": 7})
    assert [len(ids) for ids in answer.json["ids"]] == [rows, rows]


def test_distances_come_nearest_first_and_take_no_min_score(tmp_path):
    folder = saved_index(tmp_path / "index", metric="l2")
    answer = searched(folder, {"vectors": random_vectors(1).tolist(), "k": 3})
    assert answer.json["ids"][0][0] == 0
    assert answer.json["scores"][0] == sorted(answer.json["scores"][0])
    refused = searched(folder, {"vectors": vectors(), "min_score": 0})
    assert "min_score is not for squared L2 distances" in refused.error


def test_an_index_with_strings_as_ids_answers_with_names_and_takes_them(tmp_path):
    names = [f"passage {i}" for i in range(60)]
    documents, query = random_vectors(60, 1), random_vectors(1, 2)
    index = tilefold.FlatIndex(DIM)
    index.add(documents, ids=names)
    index.remove(names[10:20])
    index.save(tmp_path / "index")
    filters = {"allowed": names[:40], "exclude": [[names[3], "unknown"]]}
    found = searched(tmp_path / "index", {"vectors": query.tolist(), "k": 30, **filters}).json
    scores, ids = index.search(query, 30, **filters)
    kept = ids[0] != None  # noqa: E711 - elementwise
    assert kept.sum() == 29
    assert found["names"] == [ids[0][kept].tolist()]
    assert np.float32(found["scores"][0]).tobytes() == scores[0][kept].tobytes()
    assert [names[i] for i in found["ids"][0]] == found["names"][0]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a"], "allowed: this index has no names of documents, got 'a'"),
        ([1, ""], "allowed[1] must not be empty, got a text of 0"),
        ([1.5], "allowed[0] must be an integer, got 1.5"),
        ([-1], "allowed[0] must be at least 0, got -1"),
    ],
)
def test_wrong_ids_and_names_are_refused_by_their_place(folder, ids, message):
    answer = searched(folder, {"vectors": vectors(), "allowed": ids})
    assert (answer.status, answer.json) == (422, {"error": f"search: {message}"})


def test_a_body_of_wrong_values_is_refused_at_the_first(folder, monkeypatch):
    """Not after a list of all of them, of which a body within its limit can have a million."""
    counted = []
    monkeypatch.setattr(
        search_request,
        "sentence_of",
        lambda errors, *rest: counted.append(len(errors)) or sentence_of(errors, *rest),
    )
    wrong = [[""] * 200] * 30
    for body in (
        {"vectors": wrong},
        {"queries": wrong[0]},
        {"vectors": vectors(), "allowed": wrong},
    ):
        assert searched(folder, body).status == 422
    assert max(counted) <= 2


def test_texts_of_an_index_with_removed_strings_are_those_that_are_left(tmp_path):
    names = [f"p{i}" for i in range(10)]
    index = tilefold.FlatIndex(DIM)
    index.add(random_vectors(10, 1), ids=names)
    index.remove(["p3"])
    index.remove(["p4"], keep=True)
    index.save(tmp_path / "index")
    left = [name for name in names if name not in ("p3", "p4")]
    documents = Documents(left, [f"text of {name}" for name in left], [""] * 8)
    served = open_served(tmp_path / "index", documents=documents)
    numbers = served.search(random_vectors(1, 2), 10).ids[0]
    assert {served.documents.texts[i] for i in numbers} == set(documents.texts)


def test_metrics_count_requests_batches_and_documents(folder):
    async def ask(client):
        await asyncio.gather(*(client.search(vectors=vectors(2)) for _ in range(5)))
        await client.search(k=0)
        await client.ask("GET", "/some/path/nobody/knows")
        return (await client.ask("GET", "/metrics")).body.decode()

    text = run(folder, ask)
    for line in (
        'tilefold_requests_total{route="/search",status="200"} 5.0',
        'tilefold_requests_total{route="/search",status="422"} 1.0',
        'tilefold_requests_total{route="other",status="404"} 1.0',
        'tilefold_request_seconds_count{route="/search"} 6.0',
        "tilefold_batch_queries_sum 10.0",
        "tilefold_batch_requests_sum 5.0",
        "tilefold_queue_queries 0.0",
        'tilefold_index_documents{index="0"} 500.0',
        'tilefold_reloads_total{outcome="failed"} 0.0',
    ):
        assert line in text.splitlines(), line


def test_an_error_of_the_service_tells_the_client_nothing(folder, monkeypatch):
    import tilefold.service.endpoints as endpoints

    def fail(*args):
        raise RuntimeError("a secret path")

    async def ask(client):
        with pytest.raises(RuntimeError):  # for the server's log
            await client.search(vectors=vectors())
        return await client.ask("GET", "/metrics")

    monkeypatch.setattr(endpoints, "work_of", fail)
    text = run(folder, ask).body.decode()
    assert 'tilefold_requests_total{route="/search",status="500"} 1.0' in text


def test_info_describes_the_index_and_hides_its_path(folder):
    async def ask(client):
        return [await client.ask("GET", path) for path in ("/info", "/health", "/")]

    info, health, page = run(folder, ask)
    assert info.json["indexes"][0]["documents"] == 500
    assert info.json["limits"]["max_k"] == 1000
    for answer in (info, health, page):
        assert str(folder.parent).encode() not in answer.body


def test_answers_are_ascii_whatever_names_hold(tmp_path):
    """Names of old collections may have half a surrogate pair, which UTF-8 cannot have."""
    from tilefold.data import Documents
    from tilefold.retrieval.encode_shards import encode_shards

    names = ["\ud800", "<script>alert(1)</script>", "é"]
    list(encode_shards(lambda texts: random_vectors(3), names, names, tmp_path / "index"))
    documents = Documents(names[::-1], ["t2", "t1", "t0"], ["é", "b", "a"])

    async def main():
        slot = slot_of(tmp_path / "index", documents=documents)
        async with serving(slot, token=BearerToken("0123456789abcdef", "test")) as client:
            headers = {"authorization": "Bearer 0123456789abcdef"}
            body = {"vectors": vectors(), "k": 3, "return_texts": True}
            return await client.ask("POST", "/search", body, headers=headers)

    answer = asyncio.run(main())
    found = json.loads(answer.body.decode("ascii"))
    for i, name, title, text in zip(
        *(found[key][0] for key in ("ids", "names", "titles", "texts")), strict=True
    ):
        assert (name, title, text) == (names[i], ["a", "b", "é"][i], f"t{i}")
