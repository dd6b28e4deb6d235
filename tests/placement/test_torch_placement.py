"""The way to a GPU by torch, on a pretended one: memory is the host's, streams only count."""

import contextlib
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tilefold
from tilefold.arrays import BFLOAT16_BITS, PrecisionWarning
from tilefold.placement import TorchPlacement, torch_placement
from tilefold.retrieval import device_search, exact_search, resident_segments
from tilefold.retrieval.resident_segments import ResidentSegments
from tilefold.retrieval.segment import make_segment


class Event:
    def __init__(self, events: list[str]) -> None:
        self.events = events

    def synchronize(self) -> None:
        self.events.append("host waits")


class Stream:
    cuda_stream = 0

    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.events = name, events

    def record_event(self) -> Event:
        self.events.append(f"{self.name} records")
        return Event(self.events)

    def wait_event(self, event: Event) -> None:
        self.events.append(f"{self.name} waits")


@pytest.fixture
def events(monkeypatch) -> list[str]:
    """What was asked of streams, in order."""
    seen: list[str] = []
    current = Stream("work", seen)
    empty = torch.empty

    def pretended(*size: Any, pin_memory: bool = False, **options: Any) -> Any:
        if pin_memory:
            seen.append("pinned")
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", pretended)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("upload", seen))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(torch_placement, "torch_queue", lambda device: {})
    return seen


@pytest.fixture
def gpu(events, monkeypatch) -> TorchPlacement:
    """A placement that searches take for that of any tensor."""
    place = TorchPlacement(torch.device("cpu"))
    found = lambda array: place if isinstance(array, torch.Tensor) else None  # noqa: E731
    monkeypatch.setattr(exact_search, "placement_of", found)
    return place


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64, np.uint32, np.uint8])
@pytest.mark.parametrize("shape", [(0, 3), (5,), (4, 3), (2, 3, 4)])
def test_arrays_come_back_as_they_were(gpu, dtype, shape):
    array = (9 * gaussian(0, *shape)).astype(dtype)
    placed = gpu.place(array)
    assert str(placed.dtype) == f"torch.{array.dtype}"
    np.testing.assert_array_equal(gpu.fetch(placed), array)


def test_bits_of_bfloat16_are_bfloat16_there(gpu):
    bits = torch.from_numpy(gaussian(0, 4, 3)).bfloat16().view(torch.uint16).numpy()
    placed = gpu.place(bits)
    assert placed.dtype == torch.bfloat16
    back = gpu.fetch(placed)
    assert back.dtype == BFLOAT16_BITS
    np.testing.assert_array_equal(back, bits)


def test_arrays_are_sent_in_pinned_parts_on_a_stream_of_their_own(gpu, events, monkeypatch):
    monkeypatch.setattr(torch_placement, "_PART_BYTES", 16)
    array = np.arange(21)[::2]  # 88 bytes, not contiguous
    events.clear()
    np.testing.assert_array_equal(gpu.fetch(gpu.place(array)), array)
    assert events == ["pinned"] * 6 + ["upload records", "work waits"]


def test_an_array_that_does_not_fit_is_refused_before_memory_is_taken(gpu, monkeypatch):
    monkeypatch.setattr(torch_placement, "_SMALL_BYTES", 100)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 << 29)
    monkeypatch.setattr(torch_placement, "_HEADROOM_BYTES", (5 << 29) - 200)
    gpu.send(np.zeros(200, np.uint8))
    with pytest.raises(torch.OutOfMemoryError, match="201 bytes do not fit on cpu"):
        gpu.send(np.zeros(201, np.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 40])
@pytest.mark.parametrize("documents_placed", [False, True])
def test_tensors_are_searched(gpu, dtype, n, documents_placed):
    queries, documents = (torch.from_numpy(gaussian(s, r, 24)) for s, r in ((0, n), (1, 300)))
    queries, documents = queries.to(dtype), documents.to(dtype)
    expected = tilefold.FlatIndex(24)
    expected.add(documents)
    expected = expected.search(queries, 7)
    if not documents_placed:
        documents = documents.float().numpy()
        queries = queries.float()
    found = tilefold.search(queries, documents, 7)
    assert isinstance(found.ids, torch.Tensor)
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.scores, expected.scores)


def test_at_most_two_parts_are_on_the_device(gpu, events, monkeypatch):
    monkeypatch.setattr(device_search, "_PART_BYTES", 64 * (5 * 24 + 32))
    events.clear()
    tilefold.search(torch.from_numpy(gaussian(0, 5, 24)), gaussian(1, 300, 24), 7)
    queued = [event for event in events if event in ("work records", "host waits")]
    assert queued == ["work records"] + ["work records", "host waits"] * 4


def test_segments_stay_or_are_sent_again(gpu, monkeypatch):
    segment = make_segment(gaussian(0, 200, 24), np.arange(200))
    residents = ResidentSegments(gpu)
    (whole,) = residents.parts(segment)
    assert next(residents.parts(segment)).vectors is whole.vectors
    monkeypatch.setattr(torch_placement, "_SMALL_BYTES", 0)
    monkeypatch.setattr(resident_segments, "_PART_BYTES", 9000)
    monkeypatch.setattr(TorchPlacement, "_fits", lambda self, size: size < 9000)
    residents = ResidentSegments(gpu)
    for _ in range(2):
        parts = list(residents.parts(segment))
        assert [part.begin for part in parts] == [0, 32, 64, 96, 128, 160, 192]
        sent = np.concatenate([gpu.fetch(part.vectors) for part in parts])
        np.testing.assert_array_equal(sent, segment.vectors)


def test_memory_is_of_the_host_whatever_the_default_device(gpu):
    with torch.device("meta"):
        assert gpu.send(np.arange(3)).device.type == "cpu"


def test_what_tensors_must_be(gpu):
    with pytest.raises(ValueError, match="f: queries must be a tensor on cpu, got one on the h"):
        gpu.vectors(gaussian(0, 2, 3), "f", "queries")
    with pytest.raises(ValueError, match="f: queries must be a tensor on cpu, got one on meta"):
        gpu.vectors(torch.empty(2, 3, device="meta"), "f", "queries")
    with pytest.raises(TypeError, match=r"f: queries must be float32, .* got torch\.int64"):
        gpu.vectors(torch.zeros(2, 3, dtype=torch.int64), "f", "queries")
    with pytest.raises(ValueError, match=r"2 dimensions \[rows, dim\], got 3"):
        gpu.vectors(torch.zeros(2, 3, 4), "f", "queries")
    with pytest.raises(ValueError, match="dim >= 1, got 0"):
        gpu.vectors(torch.zeros(2, 0), "f", "queries")
    with pytest.warns(PrecisionWarning, match="f: queries are float64 and were rounded"):
        assert gpu.vectors(torch.zeros(2, 3).double(), "f", "queries").dtype == torch.float32
