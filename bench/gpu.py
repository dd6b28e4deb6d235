"""Measures CUDA kernels on the GPU of this machine against torch, and faiss-gpu where installed.

    python bench/gpu.py --json build/gpu.json

Prints one table: medians in milliseconds, ratios to the fastest peer, and shares of the rates that
are measured in the same run (int8 and bf16 products of torch, copies within the GPU). Answers of
searches are compared with those of torch in fp64 first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

import tilefold
from tilefold.losses import contrastive_loss

DIM = 768
_SECONDS = 3.0  # of timing per contender


class Row(NamedTuple):
    """One measurement."""

    name: str
    ours: float  # milliseconds
    peers: dict[str, float]
    share: str  # of which measured rate

    @property
    def ratio(self) -> float | None:
        """How many times as long the fastest peer takes."""
        return min(self.peers.values()) / self.ours if self.peers else None


def timed(call: Callable[[], Any]) -> float:
    """The median of some calls in milliseconds, by events of the GPU."""
    call()
    torch.cuda.synchronize()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 1e3 * _SECONDS and len(times) < 100):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def rates() -> dict[str, float]:
    """Operations and bytes per second that torch reaches here."""
    n = 8192
    a = torch.randint(-127, 127, (n, n), dtype=torch.int8, device="cuda")
    bf16 = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
    fp32 = torch.randn(n, n, device="cuda")
    copied = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(copied)
    operations = 2 * n**3
    return {
        "int8": operations / timed(lambda: torch._int_mm(a, a.t())) * 1e3,
        "bf16": operations / timed(lambda: bf16 @ bf16) * 1e3,
        "fp32": operations / timed(lambda: fp32 @ fp32) * 1e3,
        "copy": 2 * len(copied) / timed(lambda: target.copy_(copied)) * 1e3,
    }


def chunked_topk(queries: Any, documents: Any, k: int, chunk: int = 1 << 18) -> Any:
    """What people write by hand: products of chunks, the k best of each, merged."""
    best = None
    for begin in range(0, len(documents), chunk):
        scores = queries @ documents[begin : begin + chunk].T
        found = scores.topk(min(k, scores.shape[1]))
        ids = found.indices + begin
        if best is not None:
            values = torch.cat([best[0], found.values], 1)
            ids = torch.cat([best[1], ids], 1)
            top = values.topk(k)
            best = top.values, ids.gather(1, top.indices)
        else:
            best = found.values, ids
    return best


def searches(sizes: list[int], m: int, k: int, rate: float) -> list[Row]:
    """Searches of m documents with several numbers of queries."""
    torch.manual_seed(0)
    on_gpu = torch.randn(m, DIM, device="cuda")
    on_gpu /= on_gpu.norm(dim=1, keepdim=True)
    index = tilefold.FlatIndex(DIM, device="cuda")
    index.add(on_gpu.cpu(), copy=False)
    rows = []
    for n in sizes:
        q = F.normalize(torch.randn(n, DIM, device="cuda"), dim=1)
        check_answers(index, q, on_gpu, k)
        ours = timed(lambda q=q: index.search(q, k))
        peers = {"torch": timed(lambda q=q: chunked_topk(q, on_gpu, k))}
        if (found := faiss_seconds(q, on_gpu, k)) is not None:
            peers["faiss"] = found
        share = 2 * n * m * DIM / ours * 1e3 / rate
        rows.append(Row(f"search {n} x {m:,}, k = {k}", ours, peers, f"{share:.0%} of int8"))
    return rows


def check_answers(index: Any, queries: Any, documents: Any, k: int) -> None:
    """Compares some answers with scores in fp64."""
    found = index.search(queries[:4], k)
    exact = (queries[:4].double() @ documents.double().T).float().topk(k)
    if not torch.equal(found.scores, exact.values.float()):
        sys.exit("gpu: answers differ from those of torch in fp64")


def faiss_seconds(queries: Any, documents: Any, k: int) -> float | None:
    """The time of faiss-gpu, or None where it is not installed."""
    try:
        import faiss
        import faiss.contrib.torch_utils
    except ImportError:
        return None
    if not hasattr(faiss, "knn_gpu"):
        return None
    resources = faiss.StandardGpuResources()
    call = lambda: faiss.knn_gpu(  # noqa: E731
        resources, queries, documents, k, metric=faiss.METRIC_INNER_PRODUCT
    )
    return timed(call)


def losses(sizes: list[int], measured: dict[str, float]) -> list[Row]:
    """The contrastive loss and both gradients."""
    rows = []
    for n in sizes:
        for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
            batch = [F.normalize(torch.randn(n, DIM, device="cuda"), dim=1).to(dtype) for _ in "qd"]
            positives = torch.arange(n, device="cuda")
            ours = timed(lambda b=batch, p=positives: stepped(contrastive_loss, b, p))
            peers = {"torch": timed(lambda b=batch, p=positives: stepped(whole, b, p))}
            share = 6 * n * n * DIM / ours * 1e3 / measured[name]
            rows.append(Row(f"contrastive {n:,}, {name}", ours, peers, f"{share:.0%} of {name}"))
    return rows


def whole(queries: Any, documents: Any, positives: Any) -> Any:
    """Cross-entropy over the matrix."""
    return F.cross_entropy((queries @ documents.T).float() / 0.05, positives)


def stepped(loss: Any, batch: list[Any], positives: Any) -> None:
    queries, documents = (x.detach().requires_grad_() for x in batch)
    loss(queries, documents, positives).backward()


def main() -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--only", choices=("search", "losses"), help="part of the cases")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu: torch finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False
    measured = rates()
    rows: list[Row] = []
    if options.only != "losses":
        rows += searches([1, 512, 4096], options.documents, 100, measured["int8"])
    if options.only != "search":
        rows += losses([8192, 32768], measured)
    name = torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, tilefold {tilefold.__version__}")
    print({key: f"{value / 1e12:.1f} T/s" for key, value in measured.items()})
    print("| case | tilefold, ms | peers, ms | ratio | share of measured rate |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        peers = ", ".join(f"{peer} {time:.2f}" for peer, time in row.peers.items())
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        print(f"| {row.name} | {row.ours:.2f} | {peers} | {ratio} | {row.share} |")
    if options.json:
        figures = {"device": name, "rates": measured, "rows": [row._asdict() for row in rows]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
