"""On a GPU: bits of search, losses and statistics as on the CPU. Skipped where there is none."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tilefold
from tilefold import _native, reference
from tilefold.activations import ActivationStatistics, RowStore
from tilefold.losses import contrastive_loss, invariance_loss
from tilefold.mining import mine
from tilefold.ragged_lists import Lists

pytestmark = pytest.mark.skipif(
    _native.CUDA != "compiled" or not torch.cuda.is_available(),
    reason="needs a GPU and a build with TILEFOLD_CUDA=on",
)


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize(("n", "m", "dim", "k"), [(1, 5000, 384, 10), (300, 20_000, 100, 100)])
def test_search_has_the_bits_of_the_reference(dtype, n, m, dim, k):
    queries, documents = (
        torch.from_numpy(gaussian(0, n, dim)),
        torch.from_numpy(gaussian(1, m, dim)),
    )
    if dtype == "int8":
        queries, documents = ((30 * x).clamp(-127, 127).round() for x in (queries, documents))
    queries, documents = (x.to(getattr(torch, dtype)) for x in (queries, documents))
    index = tilefold.FlatIndex(dim, device="cuda")
    index.add(documents)
    found = index.search(queries.cuda(), k)
    expected = reference.search(queries.float().numpy(), documents.float().numpy(), k)
    np.testing.assert_array_equal(found.ids.cpu().numpy(), expected.ids)
    assert found.scores.cpu().numpy().tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("k", [1, 4096])
def test_hard_corpora_have_the_bits_of_the_cpu(k):
    for documents in (
        np.repeat(gaussian(0, 7, 64), 2000, axis=0),
        gaussian(1, 9000, 64) + 1e4,
        gaussian(2, 9000, 64) * np.exp2(np.arange(9000) % 200 - 100)[:, None].astype(np.float32),
    ):
        queries = gaussian(3, 40, 64)
        on_cpu, on_gpu = (tilefold.FlatIndex(64, device=device) for device in ("cpu", "cuda"))
        for index in (on_cpu, on_gpu):
            index.add(documents)
        expected = on_cpu.search(queries, k)
        found = on_gpu.search(torch.from_numpy(queries).cuda(), k)
        np.testing.assert_array_equal(found.ids.cpu().numpy(), expected.ids)
        assert found.scores.cpu().numpy().tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_contrastive_loss_is_that_of_the_cpu(dtype, symmetric):
    batch = [torch.from_numpy(gaussian(s, 300, 96)).to(dtype) / 10 for s in (0, 1)]
    results = []
    for device in ("cpu", "cuda"):
        queries, documents = (x.to(device).requires_grad_() for x in batch)
        positives = torch.arange(300, device=device)
        loss = contrastive_loss(queries, documents, positives, symmetric=symmetric)
        loss.backward()
        results.append([x.detach().cpu() for x in (loss, queries.grad, documents.grad)])
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    for cpu, gpu in zip(*results, strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=tolerance, atol=tolerance)


def test_the_invariance_loss_is_that_of_the_cpu():
    views, documents = (
        torch.from_numpy(gaussian(0, 3, 50, 64)),
        torch.from_numpy(gaussian(1, 80, 64)),
    )
    on_cpu = invariance_loss(views / 8, documents / 8)
    on_gpu = invariance_loss(views.cuda() / 8, documents.cuda() / 8)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-5, atol=1e-6)


def test_statistics_are_those_of_the_cpu():
    x = torch.from_numpy(gaussian(0, 5000, 300))
    on_cpu, on_gpu = ActivationStatistics(300), ActivationStatistics(300)
    on_cpu.update(x)
    on_gpu.update(x.cuda())
    torch.testing.assert_close(on_gpu.mean.cpu(), on_cpu.mean, rtol=1e-9, atol=1e-9)


def test_a_search_can_be_queued_on_a_stream_of_the_caller():
    index = tilefold.FlatIndex(32, device="cuda")
    index.add(gaussian(0, 3000, 32))
    queries = torch.from_numpy(gaussian(1, 20, 32)).cuda()
    expected = index.search(queries, 5)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = index.search(queries, 5)
    stream.synchronize()
    assert torch.equal(found.ids, expected.ids)


def test_queries_on_the_host_are_refused():
    index = tilefold.FlatIndex(4, device="cuda")
    index.add(gaussian(0, 3, 4))
    with pytest.raises(ValueError, match="queries must be a tensor on cuda:0, got one on the h"):
        index.search(gaussian(1, 1, 4), 1)


@pytest.mark.parametrize("form", ["plain", "outlier dimensions", "long mean"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"allowed": np.arange(0, 30_000, 3)},
        {"exclude": [[i, 2 * i + 1] for i in range(60)]},
        {"min_score": 3.0, "max_score": 12.0},
    ],
    ids=lambda options: "-".join(options) or "all",
)
def test_certificates_hold_and_few_documents_are_scored(form, options):
    """A wrong radius or a wrong product shows as work, or as a bound, if not in the answers."""
    queries, documents = gaussian(0, 60, 256), gaussian(1, 30_000, 256)
    if form == "outlier dimensions":
        documents[:, :3] *= 20
    if form == "long mean":
        documents += 3 * gaussian(2, 256)
    indexes = [tilefold.FlatIndex(256, device=device) for device in ("cpu", "cuda")]
    for index in indexes:
        index.add(documents)
    options = {"return_certificate": True, **options}
    expected = indexes[0].search(queries, 10, **options)
    on_gpu = torch.from_numpy(queries).cuda()
    few = 4 * expected.certificate.refined.mean() + 100
    for found in (
        indexes[1].search(on_gpu, 10, **options),
        tilefold.search(on_gpu, torch.from_numpy(documents).cuda(), 10, **options),
    ):
        np.testing.assert_array_equal(found.ids.cpu().numpy(), expected.ids)
        assert found.scores.cpu().numpy().tobytes() == expected.scores.tobytes()
        assert found.certificate.holds
        assert found.certificate.refined.mean() < few


@pytest.mark.parametrize("documents_on", ["cpu", "cuda"])
def test_arrays_are_searched_where_the_queries_are(documents_on):
    queries, documents = (torch.from_numpy(gaussian(s, r, 96)) for s, r in ((0, 50), (1, 9000)))
    expected = tilefold.search(queries, documents, 20)
    found = tilefold.search(queries.cuda(), documents.to(documents_on), 20)
    assert torch.equal(found.ids.cpu(), expected.ids)
    assert torch.equal(found.scores.cpu(), expected.scores)


def test_shards_are_sent_chunk_by_chunk(tmp_path):
    documents, queries = gaussian(1, 40_000, 96), gaussian(0, 50, 96)
    shards = [tmp_path / f"{i}.npy" for i in range(3)]
    for path, part in zip(shards, np.array_split(documents, 3), strict=True):
        np.save(path, part)
    expected = tilefold.search_shards(queries, shards, 20)
    found = tilefold.search_shards(torch.from_numpy(queries).cuda(), shards, 20)
    np.testing.assert_array_equal(found.ids.cpu().numpy(), expected.ids)
    assert found.scores.cpu().numpy().tobytes() == expected.scores.tobytes()


def test_negatives_are_those_of_the_cpu():
    queries, documents = gaussian(0, 200, 96), gaussian(1, 3000, 96)
    positives = Lists(np.arange(201), np.arange(200))
    expected = mine(queries, documents, positives, n_negatives=5, relative_margin=0.05)
    found = mine(
        torch.from_numpy(queries).cuda(),
        documents,
        positives,
        n_negatives=5,
        relative_margin=0.05,
    )
    np.testing.assert_array_equal(found.negatives.indices, expected.negatives.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_searches_take_memory_of_torch():
    queries, documents = (
        torch.from_numpy(gaussian(s, r, 96)).cuda() for s, r in ((0, 9), (1, 900))
    )
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    tilefold.search(queries, documents, 20)
    assert torch.cuda.memory_allocated() == before
    lists = 9 * 4096 * 12  # of candidates, which the kernels take
    assert torch.cuda.max_memory_allocated() > before + lists


def test_rows_are_collected_on_their_device():
    store = RowStore("bfloat16", block_rows=8)
    rows = torch.from_numpy(gaussian(0, 21, 5))
    for part in rows.cuda().split(6):
        store.append("site", part)
    assert store["site"].device.type == "cpu"
    assert torch.equal(store["site"], rows.bfloat16())
