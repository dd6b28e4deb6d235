"""A process ends cleanly while its daemon threads are at work in the library.

Before 3.14, CPython ends such threads where they take the GIL, which aborts a process whose C++ is
in the way.
"""

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[torch]")

WORK = {
    "search": "lambda: index.search(x[:64], 10)",
    "search with progress": "lambda: index.search(x[:64], 10, progress=lambda *_: sum(range(999)))",
    "search of an array": "lambda: tilefold.search(x[:20], x, 10)",
    "add": "lambda: tilefold.FlatIndex(64).add(x)",
    "approximate search": "lambda: graph.search(x[:500], 10)",
    "approximate search of some": "lambda: graph.search(x[:9], 9, allowed=np.arange(0, 3000, 2))",
    "approximate add": "lambda: graph.add(x[:600])",
    "native loss": "lambda: _native.contrastive(q, d, np.arange(1025), np.arange(1024), "
    "np.zeros(1024), scale=1.0)",
    "loss": "lambda: contrastive_loss(*tensors[:2], range(32))",
    "large loss": "lambda: contrastive_loss(*tensors[2:], range(512))",
    "alignment": "lambda: alignment_loss(tensors[:2], tensors[:2])",
    "finite rows": "lambda: _native.finite_rows(x, np.zeros(len(x), np.uint8))",
}
PROGRAM = """
import atexit, threading, time
import numpy as np, tilefold
from tilefold import _native

x = np.random.default_rng(0).standard_normal((30_000, 64)).astype(np.float32)
q, d = x[:1024].copy(), x[:20_000].copy()
index, graph = tilefold.FlatIndex(64), None
index.add(x)
if "tensors" in {work!r}:
    import torch
    from tilefold.losses import alignment_loss, contrastive_loss

    tensors = [torch.from_numpy(x[:rows].copy()).requires_grad_() for rows in (32, 64, 512, 9000)]
if "graph" in {work!r}:
    graph = tilefold.HnswIndex(64, ef_construction=40)
    graph.add(x[:3000])
begun = threading.Semaphore(0)

def loop(call):
    begun.release()
    while True:
        call()

for _ in range(3):
    threading.Thread(target=loop, args=({work},), daemon=True).start()
for _ in range(3):
    begun.acquire()
time.sleep({seconds})
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": paths, "TILEFOLD_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=400,  # under a sanitizer, on a busy machine
    )


@pytest.mark.parametrize("name", WORK)
def test_the_interpreter_ends_while_daemon_threads_work(name):
    if name.startswith("approximate"):
        pytest.importorskip("hnswlib", reason="not installed: pip install tilefold[hnsw]")
    child = run(PROGRAM.format(work=WORK[name], seconds=0.1))
    assert (child.returncode, child.stderr) == (0, "")


def test_functions_at_the_end_of_the_interpreter_may_change_an_index():
    """They run before and after the end has begun to wait for hnswlib's calls."""
    pytest.importorskip("hnswlib", reason="not installed: pip install tilefold[hnsw]")
    child = run("""
        import atexit

        def last():
            graph.add(x[:700])
            print(graph.search(x[:1], 3).ids.shape, len(graph))

        atexit.register(last)  # before tilefold's own, and so called after it
        import numpy as np, tilefold
        x = np.random.default_rng(0).standard_normal((800, 8)).astype(np.float32)
        graph = tilefold.HnswIndex(8)
        graph.add(x[:100])
        atexit.register(lambda: graph.add(x[700:]))
    """)
    assert (child.returncode, child.stdout, child.stderr) == (0, "(1, 3) 900\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_ends_while_the_parent_is_within_hnswlib():
    """The child waits for calls of its own threads alone."""
    pytest.importorskip("hnswlib", reason="not installed: pip install tilefold[hnsw]")
    child = run("""
        import os, sys, threading, warnings
        import numpy as np, tilefold
        from tilefold import _native
        warnings.simplefilter("ignore")
        inside, finish = threading.Event(), threading.Event()

        def call():
            inside.set()
            finish.wait(60)

        thread = threading.Thread(target=lambda: _native.before_exit(call))
        thread.start()
        inside.wait(60)
        child = os.fork()
        if child == 0:
            sys.exit(3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finish.set()
        thread.join()
        print(status)
    """)
    assert (child.returncode, child.stdout) == (0, "3\n"), child.stderr
