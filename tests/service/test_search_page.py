"""The search page in a browser: what it shows, what it never does."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from browser import browsing
from service_client import HashEncoder, random_vectors, saved_index, slot_of

from tilefold.data import Documents
from tilefold.retrieval.encode_shards import encode_shards
from tilefold.service import create_app
from tilefold.service.bearer_token import BearerToken

SECRET = "a-token-of-some-length"
ATTACK = "<img src=x onerror=document.title='owned'>"
NAMES = [*(f"doc{i}" for i in range(30)), ATTACK]
TEXTS = [f"{ATTACK} {'long words ' * 60}" if i % 2 else f"text {i}" for i in range(31)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def slots(tmp_path_factory):
    """Two indexes of the same documents, whose vectors differ for half of them."""
    folder = tmp_path_factory.mktemp("page")
    first, second = random_vectors(31, 1), random_vectors(31, 1)
    second[::2] = random_vectors(16, 2)
    encoder = HashEncoder().query_encoder()
    documents = Documents(NAMES, TEXTS, [ATTACK, *[f"title {i}" for i in range(30)]])
    for name, vectors in (("tuned", first), ("before", second)):
        list(encode_shards(lambda texts, v=vectors: v, NAMES, NAMES, folder / name))
    return [
        slot_of(folder / name, encoder=encoder, documents=documents) for name in ("tuned", "before")
    ]


@contextlib.contextmanager
def served(*slots: Any, **options: Any) -> Iterator[str]:
    """Serves an application from a thread; yields its address."""
    config = uvicorn.Config(
        create_app(slots, **options), port=0, log_config=None, lifespan="on", ws="none"
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def start(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = start
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(30)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


STATUS = "document.getElementById('status').textContent"


def test_two_indexes_are_shown_side_by_side_and_what_both_return_is_marked(browser, slots):
    with served(*slots) as url:
        page = browser.page()
        page.open(f"{url}/?q=first&k=10")
        page.until(f"{STATUS}.includes('in both')")
        headings = page.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
        assert headings == ["tuned", "before"]
        columns = page.evaluate(
            "[...document.querySelectorAll('section')].map(s => "
            "[...s.querySelectorAll('.name')].map(n => n.textContent))"
        )
        marked = page.evaluate(
            "[...document.querySelectorAll('section')].map(s => "
            "[...s.querySelectorAll('.both .name')].map(n => n.textContent))"
        )
    query = HashEncoder()(["first"])
    for slot, shown, both in zip(slots, columns, marked, strict=True):
        assert shown == [NAMES[i] for i in slot.current.search(query, 10).ids[0]]
        assert set(both) == set(columns[0]) & set(columns[1])
    assert 0 < len(marked[0]) < 10


def test_texts_are_never_markup_and_nothing_else_is_loaded(browser, slots):
    with served(*slots) as url:
        page = browser.page()
        page.open(f"{url}/?q={ATTACK}&k=31")
        page.until(f"{STATUS}.includes('in both')")
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert ATTACK in page.evaluate("document.getElementById('columns').textContent")
        assert "owned" not in page.evaluate("document.title")
        page.evaluate("document.querySelector('.more').click()")
        assert page.evaluate("document.querySelector('.more').getAttribute('aria-expanded')")
        page.open(f"{url}/docs")
        assert "/search" in page.evaluate("document.body.innerText")
    assert page.problems == []
    assert all(one.startswith((url, "data:image/svg+xml")) for one in page.urls)


def test_a_script_that_is_injected_does_not_run(browser, slots):
    """The policy of the page stops it, should a text ever become markup."""
    with served(*slots) as url:
        page = browser.page()
        page.open(f"{url}/")
        # The page shows its indexes when it knows them, in place of what is there.
        page.until("document.getElementById('columns').textContent.includes('dimensions')")
        page.evaluate(f"document.getElementById('columns').innerHTML = {json.dumps(ATTACK)}")
        page.until("document.querySelectorAll('img').length === 1")
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), "
                      "{textContent: 'document.title = 1'}))")  # fmt: skip
        assert page.evaluate("document.title") not in ("owned", "1")
    assert any("Content Security Policy" in problem for problem in page.problems)


def test_a_token_is_asked_for_and_kept_out_of_the_address(browser, slots):
    with served(*slots, token=BearerToken(SECRET, "test")) as url:
        page = browser.page()
        page.open(f"{url}/?q=first")
        page.until(f"{STATUS}.includes('needs a token')")
        assert page.evaluate("document.activeElement.id") == "token"
        for token, shown in (("wrong", "not the service"), (SECRET, "in both")):
            page.evaluate(f"document.getElementById('token').value = {token!r}")
            page.evaluate("document.getElementById('form').requestSubmit()")
            page.until(f"{STATUS}.includes('{shown}')")
        assert SECRET not in page.evaluate("location.href")
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_an_index_without_a_model_takes_vectors(browser, tmp_path):
    vector = random_vectors(1, 5)[0].tolist()
    with served(slot_of(saved_index(tmp_path / "bare", rows=40))) as url:
        page = browser.page()
        page.open(url)
        page.until("document.getElementById('query-label').textContent.includes('24 numbers')")
        for text, shown in (("fox", "expected a vector"), ("[1, 2]", "dim 2"),
                            (json.dumps(vector), "10 results")):  # fmt: skip
            page.evaluate(f"document.getElementById('query').value = {text!r}")
            page.evaluate("document.getElementById('form').requestSubmit()")
            page.until(f"{STATUS}.includes('{shown}')")
        assert page.evaluate("document.querySelectorAll('.hit').length") == 10


# The lowest contrast between a text and what is behind it, by WCAG 2.2.
CONTRAST = """(() => {
  const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = [99, ""];
  for (const e of document.querySelectorAll("main *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!e.offsetParent || !own) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 80)];
  }
  return worst;
})()"""


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", ["/?q=first&k=10", "/docs"])
def test_pages_are_readable_and_fit(browser, slots, width, is_dark, path):
    with served(*slots) as url:
        page = browser.page()
        if is_dark:
            page.dark()
        page.open(url + path, width)
        if path != "/docs":
            page.until(f"{STATUS}.includes('in both')")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        worst, where = page.evaluate(CONTRAST)
        assert worst >= 4.5, where
        # Every field has a label, and every page a language and one first heading.
        assert page.evaluate("[...document.querySelectorAll('input')].every(i => i.labels.length)")
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.evaluate("document.querySelectorAll('h1').length") == 1
