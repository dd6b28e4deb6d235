"""An LM behind an API: requests, retries, pace, access keys, and runs that are resumed.

Every test has its own server on this machine, which fails as the test says and counts requests.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("requests", reason="requests is not installed: pip install tilefold[api]")
pytest.importorskip("tenacity", reason="tenacity is not installed: pip install tilefold[api]")

from completions_server import CompletionsServer, Reply, completion, echo

from tilefold.aar.targets import AnswerCache, ApiError, CompletionsService, ScoredApi
from tilefold.aar.targets import completions_client as client_module

KEY = "sk-Zq81xKpLm04tRvWy76BnCd93EfGhJ2aU"
QUESTIONS = ["Q: who? A:", "Q: where? A:", "Q: when?"]
PASSAGES = [["Cats sleep.", "Hens run."], [], ["Foxes."]]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with CompletionsServer() as running:
        yield running


def service(server, **options):
    quick = {"first_wait": 0.01, "timeout": 10.0, "attempts": 4}
    return CompletionsService(server.base_url, "tiny", **{**quick, **options})


# ---- answers and choices -------------------------------------------------------------------------


def test_answers_are_first_lines_of_greedy_completions(server):
    target = ScoredApi(service(server))
    assert target.answer(QUESTIONS, PASSAGES) == [" A: indeed", " A: indeed", " when? indeed"]
    bodies = [request.body for request in server.requests]
    assert bodies[0] == {
        "model": "tiny",
        "prompt": "Cats sleep.\n\nHens run.\n\nQ: who? A:",
        "temperature": 0,
        "max_tokens": 15,
    }
    assert [body["prompt"] for body in bodies[1:]] == ["Q: where? A:", "Foxes.\n\nQ: when?"]
    assert {request.path for request in server.requests} == {"/v1/completions"}
    whole = ScoredApi(service(server), first_line_only=False, max_new_tokens=3)
    assert whole.answer(QUESTIONS[:1]) == [" A: indeed\nQ: more"]
    assert server.requests[-1].body["max_tokens"] == 3


def test_demonstrations_come_before_passages(server):
    ScoredApi(service(server)).answer(["Q?"], [["p"]], demonstrations=["Q: a A: b\n\n"])
    assert server.prompts == ["Q: a A: b\n\np\n\nQ?"]


def test_choices_compare_log_probabilities_with_minus_100_for_those_missing(server):
    listed = [
        {"_A": -3.0, "_C": -1.0, "B": -0.1},
        {"_D": -120.0},  # below those that are missing
        {"_B": -99.0},
    ]
    server.script = lambda request, n: completion(" x", **listed[n])
    target = ScoredApi(service(server), logprobs=100)
    assert target.choose(["a", "b", "c"], [list("ABCD")] * 3).tolist() == [2, 0, 1]
    body = server.requests[0].body
    assert (body["prompt"], body["max_tokens"], body["logprobs"]) == ("a\n\nAnswer:", 1, 100)


def test_a_choice_among_unlisted_options_warns(server):
    server.script = lambda request, n: completion(" x", the=-1.0)
    with pytest.warns(UserWarning, match="none of the options of 2 of 2 questions"):
        found = ScoredApi(service(server)).choose(["a", "b"], [["A", "B"]] * 2)
    assert found.tolist() == [0, 0]


def test_a_service_without_log_probabilities_cannot_choose(server, tmp_path):
    with pytest.raises(ApiError, match="returned no top_logprobs"):
        ScoredApi(service(server), cache=tmp_path / "c").choose(list("abc"), [["A", "B"]] * 3)
    assert server.prompts == ["a\n\nAnswer:"]
    with AnswerCache(tmp_path / "c") as cache:
        assert len(cache) == 0


def test_an_answer_can_be_written_to_a_file(server):
    """Half of a surrogate pair, which a token limit may leave, is no text."""
    server.script = lambda request, n: completion(" cats \ud83d")
    (answer,) = ScoredApi(service(server)).answer(["a"])
    assert answer == " cats \ufffd"
    answer.encode()


def test_equal_prompts_are_sent_once(server):
    assert len(ScoredApi(service(server)).answer(["a", "b", "a", "a"])) == 4
    assert sorted(server.prompts) == ["a", "b"]


def test_requests_of_one_run_are_at_work_together(server):
    together = threading.Barrier(3, timeout=20)

    def script(request, n):
        together.wait()
        return echo(request, n)

    server.script = script
    target = ScoredApi(service(server, concurrency=3, timeout=30.0))
    assert target.answer(list("abcdef")) == [f" {letter} indeed" for letter in "abcdef"]


# ---- failures ------------------------------------------------------------------------------------

FAILURES = {
    "unavailable": Reply(b"try later", 503),
    "too many": Reply(b"{}", 429),
    "garbage": Reply(b'{"choices": [{"te'),
    "no choice": Reply({"error": {"message": "overloaded"}}),
    "no text": Reply({"choices": [{"index": 0}]}),
    "a list": Reply(b"[" * 100_000),
    "not UTF-8": Reply(b"\xff\xfe"),
    "hangs up": Reply(hang_up=True),
    "stalls": Reply(b"late", seconds=1.0),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_passing_failure_is_tried_again(server, name):
    server.script = lambda request, n: FAILURES[name] if n < 2 else echo(request, n)
    target = ScoredApi(service(server, timeout=0.3 if name == "stalls" else 10.0))
    assert target.answer(["a"]) == [" a indeed"]
    assert server.prompts == ["a"] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unavailable", "failed at each of 3 attempts, the last time with: HTTP 503: try later"),
        ("garbage", "not JSON: .*choices"),
        ("no choice", "no choice with a text: .*overloaded"),
        ("hangs up", "failed at each of 3 attempts"),
        ("stalls", r"no byte in 0\.3 s"),
    ],
)
def test_a_lasting_failure_ends_after_all_attempts(server, name, message):
    server.script = lambda request, n: FAILURES[name]
    target = ScoredApi(service(server, attempts=3, timeout=0.3 if name == "stalls" else 10.0))
    with pytest.raises(ApiError, match=message):
        target.answer(["a"])
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b'{"error": "no such model"}', 404),
        Reply(b"", 302, {"Location": "/v1/elsewhere"}),
        Reply(b'{"error": {"code": "insufficient_quota"}}', 429),
    ],
)
def test_a_refusal_is_not_tried_again(server, reply):
    server.script = lambda request, n: reply
    with pytest.raises(ApiError, match=f"HTTP {reply.status}"):
        ScoredApi(service(server)).answer(["a"])
    assert len(server.requests) == 1


def test_nobody_at_the_address_is_an_error_of_that_address(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with CompletionsServer() as gone:
        options = {"attempts": 2, "first_wait": 0.01}
        target = ScoredApi(CompletionsService(gone.base_url, "tiny", **options))
    with pytest.raises(ApiError, match="failed at each of 2 attempts"):
        target.answer(["a"])


def test_a_longer_retry_after_is_honoured(server):
    first = Reply(b"{}", 429, {"Retry-After": "0.4"})
    server.script = lambda request, n: first if n == 0 else echo(request, n)
    ScoredApi(service(server)).answer(["a", "b"])
    times = [request.time for request in server.requests]
    assert len(times) == 3
    assert times[1] - times[0] >= 0.4


def test_a_retry_after_beyond_the_longest_wait_is_an_error(server):
    server.script = lambda request, n: Reply(b"{}", 503, {"Retry-After": "3600"})
    with pytest.raises(ApiError, match=r"Retry-After is 3600 s, more than longest_wait 60 s"):
        ScoredApi(service(server)).answer(["a"])
    assert len(server.requests) == 1


def test_retry_after_may_be_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < client_module._retry_after(soon) <= 30
    beyond = "Mon, 1 Jan 99999999999 00:00:00 GMT"
    for header in ("Wed, 21 Oct 2015 07:28:00 GMT", "", "soon", "-3", "nan", "inf", beyond):
        assert client_module._retry_after(header) == 0


def test_requests_begin_at_the_pace_that_was_set(server):
    begin = time.monotonic()
    ScoredApi(service(server, requests_per_minute=600, concurrency=4)).answer(list("abcde"))
    assert time.monotonic() - begin >= 4 * 0.1


def test_one_refusal_stops_the_waiting_of_the_others(server):
    seen = threading.Event()

    def script(request, n):
        if request.body["prompt"] == "bad":
            seen.set()
            return Reply(b"no", 400, seconds=0.3)
        seen.wait(20)
        return Reply(b"busy", 503, {"Retry-After": "50"})

    server.script = script
    with pytest.raises(ApiError, match="HTTP 400"):
        # The others would wait for 50 s.
        ScoredApi(service(server, concurrency=4)).answer(["bad", "a", "b", "c"])
    assert len(server.requests) <= 4


# ---- access keys ---------------------------------------------------------------------------------


def test_the_key_of_the_environment_is_sent_and_appears_nowhere_else(server, monkeypatch, tmp_path):
    monkeypatch.setenv("TINY_API_KEY", KEY)
    machine = server.base_url.split("//")[1].split(":")[0]
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {machine} login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    used = service(server, key_variable="TINY_API_KEY")
    target = ScoredApi(used, cache=tmp_path / "cache")
    target.answer(["a"])
    assert server.requests[0].authorization == f"Bearer {KEY}"
    assert KEY.encode() not in (tmp_path / "cache").read_bytes()
    for text in (repr(used), repr(vars(target)), target.fingerprint()):
        assert KEY not in text
    server.script = lambda request, n: Reply(f"Incorrect API key {KEY}".encode(), 401)
    with pytest.raises(ApiError, match=r"HTTP 401: Incorrect API key \[redacted\]") as refused:
        target.answer(["b"])
    assert KEY[5:20] not in str(refused.value)


def test_a_plain_key_is_removed_from_messages_too(server, monkeypatch):
    monkeypatch.setenv("TINY_API_KEY", "plainkey")
    server.script = lambda request, n: Reply(b"garbage for plainkey")
    target = ScoredApi(service(server, key_variable="TINY_API_KEY", attempts=1))
    with pytest.raises(ApiError, match=r"not JSON: garbage for \[redacted\]"):
        target.answer(["a"])


@pytest.mark.parametrize("value", [None, "", f"{KEY}\n", f" {KEY}", "schlüssel"])
def test_a_missing_or_broken_key_is_named_by_its_variable_alone(monkeypatch, value):
    monkeypatch.delenv("TINY_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TINY_API_KEY", value)
    with pytest.raises(ValueError, match="the environment variable TINY_API_KEY") as refused:
        CompletionsService("http://127.0.0.1:1/v1", "tiny", key_variable="TINY_API_KEY")
    assert not value or value.strip() not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "127.0.0.1:80/v1"}, "http:// or https://"),
        ({"base_url": "ftp://example.org"}, "http:// or https://"),
        ({"base_url": "https://me:secret@example.org/v1"}, "must not have a user, a password"),
        ({"base_url": "https://example.org/v1?key=secret"}, "must not have a user"),
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"timeout": 0}, "timeout must be above 0, got 0"),
        ({"longest_wait": float("inf")}, "longest_wait must be above 0"),
        ({"requests_per_minute": 0}, "per_minute must be above 0"),
    ],
)
def test_bad_options_of_a_service_are_named(options, message):
    with pytest.raises(ValueError, match=message) as refused:
        CompletionsService(**{"base_url": "http://127.0.0.1:1/v1", "model": "tiny", **options})
    assert "secret" not in str(refused.value)


# ---- runs that are resumed -----------------------------------------------------------------------


def test_a_failed_run_goes_on_where_it_stopped(server, tmp_path):
    questions = [f"q{i}" for i in range(8)]
    server.script = lambda request, n: Reply(b"gone", 410) if n == 5 else echo(request, n)
    target = ScoredApi(service(server), cache=tmp_path / "answers")
    with pytest.raises(ApiError, match="HTTP 410"):
        target.answer(questions)
    assert len(server.requests) == 6
    found = target.answer(questions)
    assert found == [f" {question} indeed" for question in questions]
    assert len(server.requests) == 6 + 3
    assert ScoredApi(service(server), cache=tmp_path / "answers").answer(questions) == found
    assert len(server.requests) == 9


def test_a_request_under_way_when_another_one_fails_is_kept(server, tmp_path):
    failing = threading.Event()

    def script(request, n):
        if request.body["prompt"] == "bad":
            failing.set()
            return Reply(b"no", 400)
        failing.wait(20)
        return echo(request, n)._replace(seconds=0.2)

    server.script = script
    target = ScoredApi(service(server, concurrency=2), cache=tmp_path / "answers")
    with pytest.raises(ApiError, match="HTTP 400"):
        target.answer(["good", "bad"])
    assert target.answer(["good"]) == [" good indeed"]
    assert sorted(server.prompts) == ["bad", "good"]


def test_another_model_option_or_address_is_another_request(server, tmp_path):
    cache = tmp_path / "answers"
    ScoredApi(service(server), cache=cache).answer(["a"])
    ScoredApi(service(server), cache=cache, max_new_tokens=3).answer(["a"])
    other = CompletionsService(server.base_url, "another")
    ScoredApi(other, cache=cache).answer(["a"])
    with CompletionsServer() as elsewhere:
        ScoredApi(service(elsewhere), cache=cache).answer(["a"])
        assert len(elsewhere.requests) == 1
    assert len(server.requests) == 3
    with AnswerCache(cache) as kept:
        assert len(kept) == 4


def test_a_killed_run_repeats_no_request(server, tmp_path):
    reached = threading.Event()

    def script(request, n):
        if n == 3:
            reached.set()
            return echo(request, n)._replace(seconds=60.0)
        return echo(request, n)

    server.script = script
    code = (
        "import sys; from tilefold.aar.targets import CompletionsService, ScoredApi\n"
        "service = CompletionsService(sys.argv[1], 'tiny', timeout=100)\n"
        "ScoredApi(service, cache=sys.argv[2]).answer([f'q{i}' for i in range(6)])"
    )
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", code, server.base_url, str(tmp_path / "answers")],
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert reached.wait(120)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.script = echo
    target = ScoredApi(service(server), cache=tmp_path / "answers")
    assert target.answer([f"q{i}" for i in range(6)])[5] == " q5 indeed"
    assert server.prompts == ["q0", "q1", "q2", "q3", "q3", "q4", "q5"]


def test_a_cache_in_no_folder_fails_before_the_first_request(server, tmp_path: Path):
    target = ScoredApi(service(server), cache=tmp_path / "none" / "answers")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        target.answer(["a"])
    assert not server.requests


def test_no_connection_stays_open(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            ScoredApi(service(server)).answer(["a", "b"])
    assert not [t for t in threading.enumerate() if t.name.startswith("tilefold-api")]


def test_fingerprints_cover_all_options_that_answers_depend_on(server):
    same = ScoredApi(service(server)).fingerprint()
    assert same == ScoredApi(service(server, concurrency=5), name="x", cache="y").fingerprint()
    others = [
        ScoredApi(service(server), max_new_tokens=3),
        ScoredApi(service(server), logprobs=6),
        ScoredApi(service(server), choice_suffix=""),
        ScoredApi(service(server), passage_characters=9),
        ScoredApi(CompletionsService(server.base_url, "another")),
        ScoredApi(CompletionsService("http://127.0.0.1:1/v1", "tiny")),
    ]
    assert len({same, *(other.fingerprint() for other in others)}) == len(others) + 1
