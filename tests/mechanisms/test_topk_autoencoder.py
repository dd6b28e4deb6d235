"""Sparse autoencoders: codes against a loop, features that were put in, dead features, files."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from scipy import sparse

from tilefold.arrays import PrecisionWarning
from tilefold.files.tensors import CorruptedFolderError
from tilefold.mechanisms import TopKAutoencoder, WeightDelta, selectivity, top_feature_texts
from tilefold.mechanisms.features import topk_autoencoder

pytestmark = pytest.mark.usefixtures("one_thread")
DIM, HIDDEN, K = 24, 40, 3


def sums_of_directions(n: int, directions: np.ndarray, k: int) -> np.ndarray:
    """Embeddings far from the origin, each the sum of k directions."""
    rng = np.random.default_rng(1)
    codes = np.zeros((n, len(directions)))
    for row in codes:
        row[rng.choice(len(directions), k, replace=False)] = rng.uniform(0.5, 2, k)
    return (codes @ directions * 7 + 100).astype(np.float32)


@pytest.fixture(scope="module")
def directions():
    found = np.random.default_rng(0).standard_normal((HIDDEN, DIM))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def x(directions):
    return sums_of_directions(1200, directions, K)


@pytest.fixture(scope="module")
def model(x):
    return TopKAutoencoder.fit(x, n_features=80, k=K, epochs=60, learning_rate=3e-3, progress=False)


def test_it_finds_the_directions_that_embeddings_are_sums_of(model, x, directions):
    nearest = (directions @ model.decoder.T).max(1)
    assert np.median(nearest) > 0.97
    assert (nearest > 0.85).mean() > 0.9
    assert model.explained_variance(x) > 0.9
    np.testing.assert_allclose(np.linalg.norm(model.decoder, axis=1), 1, atol=1e-5)


def test_codes_are_those_of_the_formula(model, x):
    codes = model.encode(x[:50])
    assert codes.dtype == np.float32
    assert codes.has_sorted_indices
    for row in range(50):
        centred = (x[row].astype(np.float64) - model.pre_bias) / model.scale
        activations = model.encoder.astype(np.float64) @ centred + model.encoder_bias
        best = np.sort(np.argsort(-activations)[:K])
        expected = np.zeros(80)
        expected[best] = np.maximum(activations[best], 0)
        np.testing.assert_allclose(codes[row : row + 1].toarray()[0], expected, atol=1e-4)
        rebuilt = expected @ model.decoder * model.scale + model.pre_bias
        np.testing.assert_allclose(model.reconstruct(x[row : row + 1])[0], rebuilt, atol=2e-3)


def test_codes_have_at_most_k_values_all_of_them_positive(model, x):
    codes = model.encode(x)
    assert codes.shape == (len(x), 80)
    assert np.diff(codes.indptr).max() <= K
    assert (codes.data > 0).all()
    far = TopKAutoencoder(
        model.encoder, model.encoder_bias - 1e6, model.decoder, model.pre_bias, model.scale, K
    )
    assert far.encode(x).nnz == 0
    np.testing.assert_allclose(far.reconstruct(x), np.tile(model.pre_bias, (len(x), 1)))


def test_blocks_do_not_change_codes(model, x, monkeypatch):
    whole = model.encode(x[:30])
    monkeypatch.setattr(topk_autoencoder, "_CELLS", 80 * 4)
    found = model.encode(x[:30])
    assert found.indices.tolist() == whole.indices.tolist()
    np.testing.assert_allclose(found.data, whole.data, atol=1e-5)
    assert model.encode(x[:0]).shape == (0, 80)


def test_decode_takes_sparse_and_dense_codes(model, x):
    codes = model.encode(x[:9])
    found = model.decode(codes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.decode(codes.toarray()), rtol=1e-5)
    np.testing.assert_allclose(found, model.decode(sparse.csr_matrix(codes)), rtol=1e-5)
    assert model.reconstruct(x[:9]).tolist() == found.tolist()


def test_explained_variance_is_that_of_the_definition(model, x):
    some = x[:100].astype(np.float64)
    left = np.square(some - model.reconstruct(x[:100])).sum()
    expected = 1 - left / np.square(some - some.mean(0)).sum()
    assert model.explained_variance(x[:100]) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(model.explained_variance(x[:1]))
    assert np.isnan(model.explained_variance(x[:0]))
    assert model.explained_variance(x[:100] + 1000) < 0


def test_dead_features_are_those_of_no_embedding(model, x):
    dense = model.encode(x[:20]).toarray()
    assert model.dead(x[:20]).tolist() == (~(dense > 0).any(0)).tolist()
    assert model.dead(x[:0]).all()


def test_the_auxiliary_loss_revives_dead_features():
    many = np.random.default_rng(0).standard_normal((400, 32))
    x = sums_of_directions(1500, many, 4)
    options = {"n_features": 512, "k": 4, "epochs": 40, "learning_rate": 1e-2, "progress": False}
    without = TopKAutoencoder.fit(x, aux_weight=0, **options)
    revived = TopKAutoencoder.fit(x, **options)
    assert without.dead(x).sum() > 60
    assert revived.dead(x).sum() < without.dead(x).sum() / 2
    assert revived.explained_variance(x) > without.explained_variance(x)


def test_the_seed_alone_decides(x):
    options = {"n_features": 40, "k": 2, "epochs": 2, "progress": False}
    one, same, other = (TopKAutoencoder.fit(x[:200], seed=seed, **options) for seed in (3, 3, 4))
    assert one.decoder.tolist() == same.decoder.tolist()
    assert one.decoder.tolist() != other.decoder.tolist()


def test_scale_and_shift_of_embeddings_do_not_matter(x):
    options = {"n_features": 40, "k": 2, "epochs": 3, "progress": False}
    plain = TopKAutoencoder.fit(x[:200], **options)
    moved = TopKAutoencoder.fit(x[:200] * 64 + 4096, **options)
    assert moved.scale == pytest.approx(64 * plain.scale, rel=1e-4)
    assert moved.explained_variance(x[:200] * 64 + 4096) == pytest.approx(
        plain.explained_variance(x[:200]), abs=0.02
    )


def test_a_file_has_all_of_it(model, x, tmp_path):
    path = tmp_path / "features.safetensors"
    model.save(path)
    loaded = TopKAutoencoder.load(path)
    assert (loaded.k, loaded.scale) == (model.k, model.scale)
    assert loaded.encode(x).data.tolist() == model.encode(x).data.tolist()
    assert loaded.reconstruct(x).tolist() == model.reconstruct(x).tolist()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptedFolderError):
        TopKAutoencoder.load(path)
    WeightDelta("a digest").save(path)
    with pytest.raises(ValueError, match="is no autoencoder of format version 1"):
        TopKAutoencoder.load(path)
    with pytest.raises(ValueError, match=r"from_arrays: expected encoder, .*, got k"):
        TopKAutoencoder.from_arrays({"k": np.array(1)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 4, "k": 5}, "k must be at most n_features, 4, got 5"),
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0.0"),
        ({"aux_weight": -1.0}, "aux_weight must be 0 or more and finite, got -1.0"),
        ({"aux_k": 0}, "aux_k must be at least 1, got 0"),
        ({"dead_after": 0}, "dead_after must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_errors(options, message):
    given = {"n_features": 8, "k": 2, "progress": False, **options}
    with pytest.raises(ValueError, match=message):
        TopKAutoencoder.fit(np.eye(4, dtype=np.float32), **given)


def test_wrong_embeddings_are_errors(model):
    options = {"n_features": 8, "k": 2, "epochs": 1, "progress": False}
    with pytest.raises(ValueError, match="embeddings must differ from each other, got 3 alike"):
        TopKAutoencoder.fit(np.ones((3, 4), np.float32), **options)
    with pytest.raises(ValueError, match="embeddings must differ from each other, got 0 alike"):
        TopKAutoencoder.fit(np.ones((0, 4), np.float32), **options)
    with pytest.raises(ValueError, match="embeddings must be finite"):
        TopKAutoencoder.fit(np.full((3, 4), np.nan, np.float32), **options)
    with pytest.raises(ValueError, match=r"encode: embeddings must have dim 24, got 4"):
        model.encode(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"codes must be \[n, 80\], got \[2, 3\]"):
        model.decode(np.ones((2, 3)))
    with pytest.warns(PrecisionWarning):
        model.encode(np.ones((2, DIM)))


def test_texts_of_features_are_those_with_the_largest_codes(model, x):
    codes = model.encode(x)
    dense = codes.toarray()
    found = top_feature_texts(codes, range(80), top=4)
    for feature in range(80):
        column = dense[:, feature]
        rows = sorted(np.flatnonzero(column).tolist(), key=lambda row: (-column[row], row))[:4]
        assert [(hit.text, hit.activation) for hit in found[feature]] == [
            (row, column[row]) for row in rows
        ]
    with pytest.raises(ValueError, match="feature must be 0 to 79, got 80"):
        top_feature_texts(codes, [80])


def test_selectivity_is_lifetime_sparseness():
    codes = np.array([[1.0, 0, 0, 2], [1, 0, 0, 1], [1, 3, 0, 0], [1, 0, 0, 0]])
    found = selectivity(sparse.csr_array(codes))
    assert found[:2].tolist() == [0, 1]
    assert np.isnan(found[2])
    assert found[3] == pytest.approx((1 - (3 / 4) ** 2 / (5 / 4)) / (1 - 1 / 4))
    with pytest.raises(ValueError, match="codes must be of 2 texts or more, got 1"):
        selectivity(sparse.csr_array(codes[:1]))
