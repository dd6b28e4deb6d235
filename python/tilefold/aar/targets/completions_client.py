"""Sends requests to an OpenAI-compatible completions endpoint: time limits, retries, and a pace."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...files.secrets import redacted
from ...integers import as_integer
from .request_pace import RequestPace

# Request timeout, conflict, too early, too many requests; and all from 500 on.
_TRANSIENT = {408, 409, 425, 429}
_NO_QUOTA = b"insufficient_quota"  # the one cause of 429 that waiting does not cure
_EXCERPT = 200  # characters of a body that a message has
_KEY = re.compile(r"[!-~]+")  # printable ASCII without blanks, as a header can hold


class ApiError(OSError):
    """A service refused a request, or failed until all attempts were used up."""


class _TransientError(ApiError):
    """A failure that may be gone at the next attempt."""


class StoppedError(ApiError):
    """A request was given up because another one of the same run failed."""


@dataclass(frozen=True)
class CompletionsService:
    """The address of a completions endpoint, and how patiently it is called.

    The access key is read from the environment whenever a request is sent. It is kept nowhere, and
    is removed from what a service answers before that enters a message.

    Args:
        base_url: up to the version, as in "https://api.example.com/v1"; "/completions" is added.
        model: name of the model, as the service knows it.
        key_variable: name of the environment variable with the access key; None sends none.
        timeout: seconds without a byte after which an attempt is given up.
        attempts: number of times that a request is sent at most.
        first_wait: seconds before the second attempt. They double from one to the next, up to
            longest_wait, each with as much jitter as first_wait. A longer Retry-After of the
            service is honoured, and all other requests wait as well.
        longest_wait: seconds; a longer Retry-After is an error.
        requests_per_minute: number of requests, repeated ones included; None for no limit.
        concurrency: number of requests at a time.

    Raises:
        TypeError, ValueError: base_url is no http or https address, or has a user or a password; a
            number that is out of range; no such environment variable, or no access key in it.

    Example:
        >>> service = CompletionsService("http://127.0.0.1:8000/v1", "flan-t5-base", timeout=5)
        >>> service.url
        'http://127.0.0.1:8000/v1/completions'
    """

    base_url: str
    model: str
    key_variable: str | None = None
    timeout: float = 60.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    requests_per_minute: float | None = None
    concurrency: int = 1

    def __post_init__(self) -> None:
        op = "CompletionsService"
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{op}: base_url must begin with http:// or https://")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                f"{op}: base_url must not have a user, a password or a query; name the environment "
                f"variable of the access key with key_variable"
            )
        as_integer(self.attempts, op, "attempts", at_least=1)
        as_integer(self.concurrency, op, "concurrency", at_least=1)
        for name in ("timeout", "first_wait", "longest_wait"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{op}: {name} must be above 0, got {getattr(self, name)}")
        RequestPace(self.requests_per_minute)
        self._access_key()

    @property
    def url(self) -> str:
        """The address that requests are sent to."""
        return f"{self.base_url.rstrip('/')}/completions"

    def _access_key(self) -> str:
        """Returns the access key; no message has any part of it."""
        if self.key_variable is None:
            return ""
        key = os.environ.get(self.key_variable, "")
        if not _KEY.fullmatch(key):
            problem = "has blanks or other characters that no key has" if key else "is not set"
            raise ValueError(
                f"CompletionsService: the environment variable {self.key_variable} {problem}"
            )
        return key

    @contextlib.contextmanager
    def open(self) -> Iterator[CompletionsClient]:
        """Opens connections, which several threads may share, and closes them at the end.

        Raises:
            ImportError: requests or tenacity is not installed.
        """
        try:
            import requests
            import tenacity  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"CompletionsService needs requests and tenacity ({error}): "
                f'pip install "tilefold[api]"'
            ) from error
        with requests.Session() as session:
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=self.concurrency)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            yield CompletionsClient(self, session, RequestPace(self.requests_per_minute))


class CompletionsClient:
    """An open connection to a service; made by `CompletionsService.open`.

    Args:
        service: where requests are sent.
        session: of the library requests.
        pace: shared by all threads.
    """

    def __init__(self, service: CompletionsService, session: Any, pace: RequestPace) -> None:
        self._service, self._session, self._pace = service, session, pace

    def stop(self) -> None:
        """Gives up all requests that have not been sent, also those that wait for a retry."""
        self._pace.stop()

    def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request until it is answered, and returns the first choice.

        Args:
            request: fields of the body, with the model's name.

        Raises:
            ApiError: the service refused it, or failed at every attempt.
        """
        import tenacity

        service = self._service
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(service.attempts)
            | tenacity.stop_when_event_set(self._pace.stopped),
            wait=tenacity.wait_exponential(service.first_wait, max=service.longest_wait)
            + tenacity.wait_random(0, service.first_wait),
            sleep=tenacity.sleep_using_event(self._pace.stopped),
            retry=tenacity.retry_if_exception_type(_TransientError),
            reraise=True,
        )
        body = json.dumps(request).encode()
        try:
            choice: dict[str, Any] = retrying(self._send, body)
        except _TransientError as error:
            if self._pace.stopped.is_set():
                raise StoppedError("another request failed") from None
            raise ApiError(
                f"{service.url}: model {service.model!r} failed at each of {service.attempts} "
                f"attempts, the last time with: {error}"
            ) from None
        return choice

    def _send(self, body: bytes) -> dict[str, Any]:
        """Sends a request once."""
        import requests

        failures = requests.exceptions
        if not self._pace.wait():
            raise StoppedError("another request failed")
        key = self._service._access_key()
        try:
            response = self._session.post(
                self._service.url,
                data=body,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                auth=_Bearer(key),
                timeout=self._service.timeout,
                allow_redirects=False,
            )
        except failures.SSLError as error:
            raise ApiError(f"{self._service.url}: {_cleaned(str(error), key)}") from None
        except failures.Timeout:
            raise _TransientError(f"no byte in {self._service.timeout:g} s") from None
        except (
            failures.ConnectionError,
            failures.ChunkedEncodingError,
            failures.ContentDecodingError,
        ) as error:
            raise _TransientError(_cleaned(str(error), key)) from None
        self._check_status(response, key)
        return _choice(response.content, key)

    def _check_status(self, response: Any, key: str) -> None:
        status = response.status_code
        if status == 200:
            return
        problem = f"HTTP {status}: {_cleaned(_text(response.content), key)}"
        if (status not in _TRANSIENT and status < 500) or _NO_QUOTA in response.content:
            raise ApiError(f"{self._service.url}: model {self._service.model!r}: {problem}")
        seconds = _retry_after(response.headers.get("Retry-After", ""))
        if seconds > self._service.longest_wait:
            raise ApiError(
                f"{self._service.url}: Retry-After is {seconds:.0f} s, more than longest_wait "
                f"{self._service.longest_wait:g} s; {problem}"
            )
        if seconds:
            self._pace.pause(seconds)  # this request waits as well before it is sent again
        raise _TransientError(problem)


class _Bearer:
    """Adds the access key to a request; given as `auth`, so that no .netrc file replaces it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: Any) -> Any:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _choice(content: bytes, key: str) -> dict[str, Any]:
    """Returns the first choice of a body.

    Raises:
        _TransientError: the body has none. Proxies and overloaded servers send such bodies.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise _TransientError(f"not JSON: {_cleaned(_text(content), key)}") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict) or not isinstance(first.get("text"), str):
        raise _TransientError(f"no choice with a text: {_cleaned(_text(content), key)}")
    # JSON can escape half of a surrogate pair, which no file can hold.
    text = first["text"].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return {"text": text, **{name: first[name] for name in ("logprobs",) if name in first}}


def _retry_after(header: str) -> float:
    """Parses a Retry-After header into seconds, 0 where it cannot be read.

    It has seconds or a date (RFC 9110, section 10.2.3).
    """
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(header)
        except (ValueError, OverflowError):  # such as a year beyond any date
            return 0.0
        if moment.tzinfo is None:  # "-0000"
            moment = moment.replace(tzinfo=datetime.UTC)
        seconds = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _cleaned(text: str, key: str) -> str:
    """Returns an excerpt for a message, without the access key or anything that looks like one."""
    without = text.replace(key, "[redacted]") if key else text
    return redacted(without).strip()[:_EXCERPT] or "(empty)"
