"""FlatIndex on a device, under emulation: answers of the host, segments that come and go."""

import numpy as np
import pytest

import tilefold
from tilefold import _native
from tilefold.placement import EmulatedArray, EmulatedPlacement, placement_on
from tilefold.retrieval import resident_segments
from tilefold.retrieval.resident_segments import ResidentSegments

emulated = pytest.mark.skipif(
    _native.CUDA != "emulated", reason="needs a build with emulated CUDA (make test-cuda)"
)


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both(metric: str = "ip", rows: int = 900) -> tuple[tilefold.FlatIndex, tilefold.FlatIndex]:
    """The same documents on the host and on the device."""
    indexes = tuple(tilefold.FlatIndex(24, metric=metric, device=d) for d in ("cpu", "cuda"))
    for index in indexes:
        index.add(gaussian(0, rows, 24) + 0.3, ids=np.arange(rows) * 3)
    return indexes


def assert_same(found, expected) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    assert found.scores.tobytes() == expected.scores.tobytes()


@emulated
@pytest.mark.parametrize("metric", ["ip", "cosine"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"allowed": np.arange(0, 2700, 6)},
        {"exclude": [[3 * i, 3 * i + 3] for i in range(5)]},
        {"min_score": 0.1, "max_score": 0.9},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_answers_are_those_of_the_host(metric, options):
    on_host, on_device = both(metric)
    queries = gaussian(1, 5, 24)
    assert on_device.device == "cuda:0"
    found = on_device.search(EmulatedArray(queries), 7, **options)
    assert_same(found, on_host.search(queries, 7, **options))


@emulated
@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_ids_that_are_strings_are_those_of_the_host(metric):
    own = [f"d{i}" for i in range(900)]
    on_host, on_device = (
        tilefold.FlatIndex(24, metric=metric, device=device) for device in ("cpu", "cuda")
    )
    for index in (on_host, on_device):
        index.add(gaussian(0, 900, 24) + 0.3, ids=own)
        index.remove(own[5:8])
    queries = gaussian(1, 5, 24)
    for options in ({}, {"allowed": own[::2]}, {"exclude": [[own[i]] for i in range(5)]}):
        found = on_device.search(EmulatedArray(queries), 7, **options)
        expected = on_host.search(queries, 7, **options)
        assert found.ids.tolist() == expected.ids.tolist()
        assert np.asarray(found.scores).tobytes() == expected.scores.tobytes()


@emulated
def test_a_single_query_has_a_single_answer():
    on_host, on_device = both()
    query = gaussian(1, 24)
    assert_same(on_device.search(EmulatedArray(query), 3), on_host.search(query, 3))


@emulated
def test_changes_of_the_index_are_searched():
    on_host, on_device = both()
    queries = gaussian(1, 4, 24)
    for index in (on_host, on_device):
        index.search(EmulatedArray(queries) if index is on_device else queries, 2)
        index.remove(np.arange(0, 300, 3))
        index.add(gaussian(2, 50, 24))
        index.replace(gaussian(3, 1, 24) * 9, ids=[600])
    assert_same(on_device.search(EmulatedArray(queries), 6), on_host.search(queries, 6))


@emulated
def test_memory_of_replaced_segments_is_freed():
    _, on_device = both(rows=100)
    queries = EmulatedArray(gaussian(1, 2, 24))
    on_device.search(queries, 2)
    before = set(on_device._residents._kept)
    on_device.add(gaussian(2, 90, 24))  # small segments are merged
    assert not before & set(on_device._residents._kept)
    on_device.search(queries, 2)
    assert len(on_device._residents._kept) == len(on_device.segments)


@emulated
def test_documents_that_do_not_fit_are_sent_in_parts(monkeypatch):
    on_host, on_device = both()
    monkeypatch.setattr(resident_segments, "_PART_BYTES", 20_000)
    small = EmulatedPlacement(memory=40_000)
    on_device._placement, on_device._residents = small, ResidentSegments(small)
    parts = list(on_device._residents.parts(on_device.segments[0]))
    assert len(parts) > 3
    assert [part.begin for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert parts[0].begin == 0
    assert parts[-1].end == 900
    queries = gaussian(1, 4, 24)
    seen = []
    found = on_device.search(EmulatedArray(queries), 6, progress=lambda *done: seen.append(done))
    assert_same(found, on_host.search(queries, 6))
    assert seen == [(part.end, 900) for part in parts]


@emulated
def test_certificates_are_on_the_host():
    on_host, on_device = both(rows=5000)
    queries = gaussian(1, 3, 24)
    found = on_device.search(EmulatedArray(queries), 4, return_certificate=True)
    expected = on_host.search(queries, 4, return_certificate=True)
    assert_same(found, expected)
    assert found.certificate.holds
    assert (found.certificate.refined >= 4).all()
    assert (found.certificate.refined < 5000).all()
    np.testing.assert_array_equal(found.certificate.threshold, expected.certificate.threshold)


@emulated
def test_rows_that_are_not_finite():
    on_host, on_device = both()
    queries, documents = gaussian(1, 3, 24), gaussian(2, 40, 24)
    queries[1, 5] = np.nan
    documents[7] = np.inf
    for index in (on_host, on_device):
        index.add(documents, nonfinite="exclude")
    with pytest.raises(ValueError, match="row 1 of queries has a NaN"):
        on_device.search(EmulatedArray(queries), 3)
    options = {"nonfinite": "exclude", "return_certificate": True}
    found = on_device.search(EmulatedArray(queries), 3, **options)
    expected = on_host.search(queries, 3, **options)
    assert_same(found, expected)
    assert found.certificate.nonfinite_queries == 1
    assert found.certificate.nonfinite_documents == 1


@emulated
def test_an_index_is_saved_and_loaded_for_either_device(tmp_path):
    on_host, on_device = both()
    on_device.save(tmp_path / "index")
    loaded = tilefold.FlatIndex.load(tmp_path / "index", device="cuda")
    queries = gaussian(1, 3, 24)
    expected = on_host.search(queries, 3)
    assert_same(loaded.search(EmulatedArray(queries), 3), expected)
    assert_same(tilefold.FlatIndex.load(tmp_path / "index").search(queries, 3), expected)
    assert "device='cuda:0'" in repr(loaded)


@emulated
def test_what_a_device_cannot_do_names_the_way_out():
    _, on_device = both()
    with pytest.raises(
        ValueError, match=r"queries must be a tensor on cuda:0, got one on the host; move it"
    ):
        on_device.search(gaussian(1, 2, 24), 3)
    with pytest.raises(
        ValueError, match='has no range search; save it and load it with device="cpu"'
    ):
        on_device.range_search(EmulatedArray(gaussian(1, 2, 24)), 0.5)
    with pytest.raises(ValueError, match='metric "l2" is on the CPU alone'):
        tilefold.FlatIndex(4, metric="l2", device="cuda")
    with pytest.raises(ValueError, match="queries have dim 5 but documents have dim 24"):
        on_device.search(EmulatedArray(gaussian(1, 2, 5)), 3)


@emulated
def test_an_emulated_build_has_one_device():
    with pytest.raises(
        ValueError, match="device must be cuda:0 in an emulated build, got 'cuda:1'"
    ):
        tilefold.FlatIndex(4, device="cuda:1")


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", 3])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(
        ValueError, match=r'FlatIndex: device must be "cpu", "cuda" or "cuda:N", got'
    ):
        tilefold.FlatIndex(4, device=device)


@pytest.mark.skipif(_native.CUDA != "none", reason="this build has CUDA kernels")
def test_a_build_without_kernels_says_how_to_get_them():
    with pytest.raises(
        ValueError, match=r"which this build lacks: pip install \"tilefold\[cuda\]\""
    ):
        tilefold.FlatIndex(4, device="cuda")
    assert placement_on("cpu", "f") is None
