"""The process of `tilefold serve`: signals under load, and clients that mean harm."""

import json
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from running_service import Load, read_to_end, running
from service_client import DIM, random_vectors, saved_index

import tilefold

BODY = {"vectors": random_vectors(2, 1).tolist(), "k": 5}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = saved_index(tmp_path_factory.mktemp("process") / "index")
    with running(folder, "--max-connections", "50") as found:
        yield found


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /search HTTP/1.1", "host: localhost", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(service) -> bool:
    return service.ask("POST", "/search", BODY)[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),  # TLS
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (post(b"", "content-length: 5", "transfer-encoding: chunked"), b"400"),
        (post(b"", "content-length: 5", "content-length: 6"), b"400"),
        (post(b"{}", "content-length: -2"), b"400"),
        (post(b"zz\r\n{}\r\n0\r\n\r\n", "transfer-encoding: chunked"), b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\nconnection: close\r\n\r\n", b"421"),
        (b"GET http://evil.example/info HTTP/1.1\r\nhost: evil.example\r\n\r\n", b"421"),
        (post(b"", "content-length: 9000000"), b"413"),
        (post(b"", "content-length: 99999999999999999999999"), b"4"),
        (b"OPTIONS /search HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", b"405"),
        (b"HEAD /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", b"200"),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
         b"404"),
        (b"GET /health?x=\r\n HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", b"4"),
        (post(b"5\r\n{\"a\":\r\n0\r\n\r\n", "transfer-encoding: chunked", "connection: close"),
         b"400"),
    ],
)  # fmt: skip
def test_a_strange_request_is_refused_and_the_service_lives(service, request_bytes, status):
    answer = service.raw(request_bytes)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert answers(service)


def test_a_head_request_has_no_body(service):
    request = b"HEAD /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    head, _, body = service.raw(request).partition(b"\r\n\r\n")
    assert b"content-length:" in head
    assert body == b""


def test_a_chunked_body_without_end_is_cut_off(service):
    with service.connection() as connection:
        connection.sendall(post(b"", "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(chunk * 300)  # 19 MiB
    assert answers(service)


def test_headers_without_end_are_cut_off(service):
    with service.connection() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(b"a" * (16 << 20))
    assert answers(service)


def test_connections_beyond_the_limit_are_refused_and_others_come_back(service):
    idle = [service.connection() for _ in range(60)]
    status, _ = service.ask("GET", "/health")
    for connection in idle:
        connection.close()
    assert status == 503
    for _ in range(100):
        if service.ask("GET", "/health")[0] == 200:
            return
        time.sleep(0.05)
    pytest.fail("the service did not recover")


def test_a_name_of_a_path_cannot_inject_headers(service):
    request = (
        b"GET /a%0d%0ax-injected:%201 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    head, _, body = service.raw(request).partition(b"\r\n\r\n")
    assert b"404" in head.splitlines()[0]
    assert b"x-injected" not in head
    assert b"\r\n" not in body


def test_sigterm_answers_every_request_in_flight_and_takes_no_others(tmp_path):
    body = json.dumps(BODY).encode()
    with running(saved_index(tmp_path / "index")) as service:
        begun = [service.connection() for _ in range(5)]
        for connection in begun:
            connection.sendall(post(body[:100], f"content-length: {len(body)}"))
        assert answers(service)  # so they were read, too
        service.signal(signal.SIGTERM)
        until(lambda: not accepts(service))
        for connection in begun:
            connection.sendall(body[100:])
            assert read_to_end(connection).startswith(b"HTTP/1.1 200 OK")
            connection.close()
        _, errors = service.process.communicate(timeout=30)
    assert service.process.returncode == 0
    assert errors == ""


def accepts(service) -> bool:
    try:
        service.connection().close()
    except ConnectionError:
        return False
    return True


def test_sigterm_under_load_breaks_no_answer(tmp_path):
    """Clients that send again on a connection as it is closed have no answer, never half of one."""
    with running(saved_index(tmp_path / "index", rows=2000)) as service:
        with Load(service, BODY, clients=6) as load:
            until(lambda: len(load.statuses) > 50)
            errors = service.end()
        assert service.process.returncode == 0
    assert errors == ""
    assert set(load.statuses) == {200}
    assert load.refused == 6


def test_sighup_reloads_and_no_request_fails(tmp_path):
    folder = saved_index(tmp_path / "index", rows=300)
    with running(folder) as service:
        with Load(service, BODY) as load:
            for turn in range(10):
                time.sleep(0.1)
                saved_index(folder, rows=300 + turn, seed=turn)
                service.signal(signal.SIGHUP)
            until(lambda: documents(service) == 309)
        assert set(load.statuses) == {200}
        assert load.closed == 0
        shutil.rmtree(folder)
        service.signal(signal.SIGHUP)
        until(lambda: service.ask("GET", "/health")[1]["status"] == "degraded")
        assert answers(service)
        errors = service.end()
    assert "kept generation" in errors
    assert "Traceback" not in errors


def documents(service) -> int:
    return service.ask("GET", "/info")[1]["indexes"][0]["documents"]


def until(condition) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come true in ten seconds")


def test_a_second_signal_ends_at_once(tmp_path):
    with running(saved_index(tmp_path / "index")) as service, service.connection() as connection:
        connection.sendall(post(b"", "content-length: 100"))  # a body that never comes
        time.sleep(0.3)
        service.signal(signal.SIGINT)
        time.sleep(0.5)
        assert service.process.poll() is None
        service.signal(signal.SIGINT)
        _, errors = service.process.communicate(timeout=20)
    assert service.process.returncode == -signal.SIGTERM
    assert errors == ""


def test_a_token_protects_a_service_and_is_shown_nowhere(tmp_path):
    secret = "0123456789-secret-token"
    with running(saved_index(tmp_path / "index"), TILEFOLD_SERVE_TOKEN=secret) as service:
        assert service.ask("GET", "/info")[0] == 401
        headers = {"authorization": f"Bearer {secret}"}
        assert service.ask("POST", "/search", BODY, headers)[0] == 200
        service.signal(signal.SIGTERM)
        output, errors = service.process.communicate(timeout=30)
        assert secret not in output + errors


def test_json_is_exact_over_the_wire(service):
    index = tilefold.FlatIndex(DIM)
    index.add(random_vectors(500))
    queries = random_vectors(3, 4)
    status, answer = service.ask("POST", "/search", {"vectors": queries.tolist(), "k": 20})
    scores, ids = index.search(queries, 20)
    assert status == 200
    assert answer["ids"] == ids.tolist()
    assert np.float32(answer["scores"]).tobytes() == scores.tobytes()


def test_pipelined_requests_are_answered_in_order(service):
    body = json.dumps({**BODY, "k": 1}).encode()
    one = post(body, f"content-length: {len(body)}")
    last = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    found = service.raw(one * 3 + last)
    assert found.count(b"HTTP/1.1 200") == 4
    assert found.rindex(b'"status":"ok"') > found.rindex(b'"scores"')


def test_many_threads_get_their_own_answers(service):
    """Concurrent requests with other vectors are not mixed up."""
    index = tilefold.FlatIndex(DIM)
    index.add(random_vectors(500))
    wrong = []

    def ask(seed: int) -> None:
        for turn in range(5):
            query = random_vectors(1, 100 * seed + turn)
            k = 1 + (seed + turn) % 9
            _, answer = service.ask("POST", "/search", {"vectors": query.tolist(), "k": k})
            if answer["ids"] != index.search(query, k).ids.tolist():
                wrong.append((seed, turn))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
