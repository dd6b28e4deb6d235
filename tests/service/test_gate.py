"""The gate: tokens, hosts and origins, and headers that keep a browser from doing more."""

import asyncio

import pytest
from service_client import random_vectors, saved_index, serving, slot_of

from tilefold.service.bearer_token import VARIABLE, BearerToken, read_token

SECRET = "a-token-of-some-length"
PROTECTED = [
    ("POST", "/search"),
    ("POST", "/reload"),
    ("GET", "/info"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/nowhere"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_index(tmp_path_factory.mktemp("gate") / "index", rows=20)


def asked(folder, method, path, *, token=None, **headers):
    async def main():
        async with serving(slot_of(folder), token=token) as client:
            body = {"vectors": random_vectors(1).tolist()} if method == "POST" else None
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.ask(method, path, body, headers=sent)

    return asyncio.run(main())


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer wrong-token-of-length",
        f"Basic {SECRET}",
        SECRET,
        "Bearer",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        "Bearer é",
    ],
)
def test_a_request_without_the_token_is_refused(folder, method, path, header):
    given = {} if header is None else {"authorization": header}
    answer = asked(folder, method, path, token=BearerToken(SECRET, "test"), **given)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert SECRET not in answer.body.decode()


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_request_with_the_token_is_answered(folder, method, path, scheme):
    header = f"{scheme} {SECRET}"
    answer = asked(
        folder, method, path, token=BearerToken(SECRET, "test"), authorization=header, host="any"
    )
    assert answer.status == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize("path", ["/health", "/ready", "/"])
def test_health_and_the_empty_page_need_no_token(folder, path):
    answer = asked(folder, "GET", path, token=BearerToken(SECRET, "test"))
    assert answer.status == 200
    assert b"index" not in answer.body or path == "/"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
def test_without_a_token_a_loopback_host_is_answered(folder, host):
    assert asked(folder, "GET", "/info", host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
@pytest.mark.parametrize("path", ["/info", "/health", "/"])
def test_without_a_token_another_host_is_refused(folder, host, path):
    """A name that leads to this machine (DNS rebinding) makes a page's requests same-origin."""
    answer = asked(folder, "GET", path, host=host)
    assert answer.status == 421
    assert "Host" in answer.error


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999", ""])
def test_without_a_token_a_page_of_another_site_is_refused(folder, origin):
    answer = asked(folder, "POST", "/reload", host="localhost:8000", origin=origin)
    assert answer.status == 403


def test_the_service_s_own_page_is_answered(folder):
    own = {"host": "localhost:8000", "origin": "http://localhost:8000"}
    assert asked(folder, "POST", "/search", **own).status == 200


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_allow_their_own_parts_and_nothing_else(folder, path):
    answer = asked(folder, "GET", path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "*" not in policy
    page = answer.body.decode()
    assert " style=" not in page
    assert " onclick=" not in page
    assert "innerHTML" not in page


@pytest.mark.parametrize("path", ["/info", "/nowhere", "/metrics", "/health"])
def test_every_answer_has_headers_for_browsers(folder, path):
    headers = asked(folder, "GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("secret", ["", "short", "x" * 1025, "spaces in a long token", "é" * 20])
def test_a_token_that_is_no_secret_is_refused_without_showing_it(secret):
    with pytest.raises(ValueError, match="must have 16 to 1024 letters") as caught:
        BearerToken(secret, "VARIABLE")
    assert not secret or secret not in str(caught.value)


def test_a_token_is_read_from_a_file_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(VARIABLE, "token-of-the-environment")
    assert read_token(None).matches(b"Bearer token-of-the-environment")
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    assert read_token(str(path)).matches(f"Bearer {SECRET}".encode())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe" * 20])
def test_a_file_without_a_token_is_an_error(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="--token-file"):
        read_token(str(path))
    with pytest.raises(FileNotFoundError):
        read_token(str(tmp_path / "none"))


def test_an_empty_variable_is_an_error_and_no_open_service(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ValueError, match=VARIABLE):
        read_token(None)
