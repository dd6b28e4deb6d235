"""RowStore: rows of any number of batches are those that were added, in memory and on disk."""

import errno

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[torch]")

from tilefold.activations import row_blocks, row_store
from tilefold.activations.row_store import RowStore
from tilefold.files.tensors import CorruptedFolderError

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


@pytest.fixture(params=["of the host", "of a device"], autouse=True)
def device(request, monkeypatch):
    """Runs every test as if the rows were on a device, too, from where four are moved at once."""
    if request.param == "of a device":
        monkeypatch.setattr(row_store, "_HOST", "another")
        monkeypatch.setattr(row_store, "_ROWS_MOVED", 4)


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
    monkeypatch.setattr(row_blocks, "write_tensors", full)
    monkeypatch.setattr(row_store, "_ROWS_MOVED", 1)
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


@pytest.fixture
def folder(tmp_path):
    filled(RowStore(folder=tmp_path / "x", block_rows=4), "a", "bb").flush()
    return tmp_path / "x"


def test_a_block_that_is_missing_is_named(folder):
    path = folder / "000-00001.safetensors"
    path.unlink()
    with pytest.raises(CorruptedFolderError, match=f"{path} is missing"):
        RowStore.open(folder)


@pytest.mark.parametrize("other", ["000-00002.safetensors", "001-00001.safetensors"])
def test_blocks_whose_files_are_exchanged_are_refused(folder, other):
    one, other = folder / "000-00001.safetensors", folder / other
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(CorruptedFolderError, match=f"{one} does not match its checksum"):
        RowStore.open(folder)["a"]


def test_a_block_of_another_size_is_refused_even_without_verification(folder):
    last = folder / "000-00004.safetensors"
    last.write_bytes((folder / "000-00000.safetensors").read_bytes())
    with pytest.raises(CorruptedFolderError, match=r"rows of shape \(3, 3\), got float32 of shape"):
        RowStore.open(folder, verify=False)["a"]


def test_a_flipped_bit_is_noticed_with_verification_alone(folder):
    path = folder / "000-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert RowStore.open(folder, verify=False)["a"].shape == (sum(SIZES), 3)
    assert torch.equal(RowStore.open(folder)["bb"], rows_of("bb"))
    with pytest.raises(CorruptedFolderError, match=f"{path} does not match its checksum"):
        RowStore.open(folder)["a"]


@pytest.mark.parametrize("content", ["[]", "null", "{}", "{", '{"version": 1}', "[" * 100_000])
def test_garbage_in_the_list_of_blocks_is_a_clear_error(folder, content):
    (folder / "sites.json").write_text(content)
    with pytest.raises(CorruptedFolderError, match=r"sites\.json"):
        RowStore.open(folder)


def test_a_site_without_rows_has_its_width(tmp_path):
    store = RowStore(folder=tmp_path / "x")
    store.append("a", torch.empty(0, 5))
    store.flush()
    assert RowStore.open(tmp_path / "x")["a"].shape == (0, 5)
