"""RowStore: rows of any number of batches are those that were added, in memory and on disk."""

import errno

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[torch]")

from tilefold.activations import row_store
from tilefold.activations.row_store import RowStore

SIZES = [0, 1, 5, 3, 8, 2]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def rows_of(site: str, width: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(site))
    return torch.randn(sum(SIZES), width, generator=generator)


def filled(store: RowStore, *sites: str) -> RowStore:
    for parts in zip(*(torch.split(rows_of(site), SIZES) for site in sites), strict=True):
        for site, part in zip(sites, parts, strict=True):
            store.append(site, part)
    return store


@pytest.mark.parametrize("block_rows", [1, 4, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_those_that_were_added(tmp_path, dtype, block_rows):
    stores = [
        filled(RowStore(dtype, block_rows=block_rows), "a", "b.*:input"),
        filled(RowStore(dtype, block_rows=block_rows, folder=tmp_path / "x"), "a", "b.*:input"),
    ]
    stores[1].flush()
    for store in (*stores, RowStore.open(tmp_path / "x")):
        assert list(store) == ["a", "b.*:input"]
        for site in store:
            assert store[site].dtype == DTYPES[dtype]
            assert torch.equal(store[site], rows_of(site).to(DTYPES[dtype]))
            assert sum(len(block) for block in store.blocks(site)) == sum(SIZES)


def test_memory_holds_a_block_of_each_site(tmp_path):
    store = filled(RowStore(folder=tmp_path / "x", block_rows=4), "a")
    kept = [block for block in store._blocks["a"] if isinstance(block, torch.Tensor)]
    assert len(kept) == 1
    assert torch.equal(store["a"], rows_of("a"))


def test_rows_may_come_from_inference_mode():
    store = RowStore(block_rows=4)
    with torch.inference_mode():
        store.append("a", torch.ones(2, 3))
    store.append("a", torch.zeros(1, 3))
    assert store["a"].sum() == 6


def test_what_was_not_flushed_is_not_there(tmp_path):
    filled(RowStore(folder=tmp_path / "x", block_rows=4), "a")
    with pytest.raises(FileNotFoundError):
        RowStore.open(tmp_path / "x")


def test_a_full_disk_leaves_no_half_block(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = RowStore(folder=tmp_path / "x", block_rows=2)
    store.append("a", torch.ones(2, 3))
    monkeypatch.setattr(row_store, "write_tensors", full)
    with pytest.raises(OSError, match="No space"):
        store.append("a", torch.ones(1, 3))
    assert not list((tmp_path / "x").iterdir())
    monkeypatch.undo()
    store.append("a", torch.ones(1, 3))  # nothing is lost
    assert store["a"].shape == (3, 3)


def test_what_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16, got"):
        RowStore("int8")
    with pytest.raises(ValueError, match="block_rows must be at least 1, got 0"):
        RowStore(block_rows=0)
    store = filled(RowStore(folder=tmp_path / "x"), "a")
    with pytest.raises(ValueError, match="rows of a must have width 3, got 4"):
        store.append("a", torch.ones(1, 4))
    with pytest.raises(ValueError, match="rows must have 2 dimensions, got 1"):
        store.append("a", torch.ones(3))
    store.flush()
    with pytest.raises(ValueError, match="is finished"):
        store.append("a", torch.ones(1, 3))
    with pytest.raises(FileExistsError, match="holds something"):
        RowStore(folder=tmp_path / "x")
    with pytest.raises(ValueError, match="has no folder"):
        RowStore().flush()
