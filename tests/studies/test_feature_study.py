"""The study of features: its measures are those of the autoencoders, and a stopped run goes on."""

import importlib.util
import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from small_bases import use_small_bases

from tilefold.cli.main import main
from tilefold.evaluate import evaluate
from tilefold.files.done_once import read_checked
from tilefold.mechanisms import TopKAutoencoder
from tilefold.studies.features import FEATURES, FeatureSettings
from tilefold.studies.mean_ratio import ratio_of_means
from tilefold.studies.report_pages import mechanisms_report
from tilefold.studies.study import Reporter
from tilefold.studies.study_file import read_result
from tilefold.studies.subject import load_subject

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["mechanisms", "features", "--world", "tiny", "--n-features", "96", "--k", "4", "16"]
WORDS += ["--autoencoder-epochs", "20", "--top-features", "3"]


@pytest.fixture(scope="module")
def studied(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "out"
    with pytest.MonkeyPatch.context() as patch:
        use_small_bases(patch, cache)
        assert main([*WORDS, "--out", str(out)]) == 0
    return out


def test_measures_are_those_of_the_autoencoders(small, studied):
    result = read_result(studied / "features.json", FEATURES)
    assert [(row.model, row.k) for row in result.autoencoders] == [
        (name, k) for name in ("base", "retriever") for k in (4, 16)
    ]
    subject = load_subject(FeatureSettings(world="tiny"), paraphrases=(3,), progress=Reporter())
    data = subject.data
    judged = data.positives.offsets, data.positives.indices, np.ones(len(data.positives.indices))

    def measured(queries, documents):
        scores = np.asarray(queries @ documents.T)
        return evaluate(np.argsort(-scores, kind="stable")[:, :10], judged, ["nDCG@10"])["nDCG@10"]

    row = result.autoencoders[3]
    model = subject.models["retriever"]
    queries = model.encode_queries(data.queries, progress=False)
    documents = model.encode_corpus(data.documents, progress=False)
    (path,) = (studied / "steps").glob("features-retriever-96-16-*")
    kept = {name: x for name, x in read_checked(path).items() if name != "key of the step"}
    autoencoder = TopKAutoencoder.from_arrays(kept)
    assert row.documents_explained == pytest.approx(autoencoder.explained_variance(documents))
    assert row.queries_explained == pytest.approx(autoencoder.explained_variance(queries), abs=1e-4)
    assert row.dead == autoencoder.dead(documents).sum()
    whole = measured(queries, documents).mean()
    assert result.dense["retriever"].mean == pytest.approx(whole, abs=0.02)
    rebuilt = measured(autoencoder.reconstruct(queries), autoencoder.reconstruct(documents)).mean()
    assert row.reconstructed.mean == pytest.approx(rebuilt, abs=0.02)
    assert row.retained.mean == pytest.approx(row.reconstructed.mean / result.dense["retriever"][0])
    codes = [autoencoder.encode(x).toarray() for x in (queries, documents)]
    assert row.index.mean == pytest.approx(measured(*codes).mean(), abs=0.02)
    assert row.non_zeros == pytest.approx((codes[1] > 0).sum(1).mean())
    assert row.bytes_of_embedding == 512
    assert row.retained.low <= row.retained.mean <= row.retained.high
    assert (result.bm25 is None) == (importlib.util.find_spec("bm25s") is None)


def test_features_are_shown_with_their_passages(studied):
    result = read_result(studied / "features.json", FEATURES)
    shown = result.autoencoders[result.shown]
    assert (shown.model, shown.k) == ("retriever", 4)
    used = [row.documents for row in result.examples if row.chosen == "most used"]
    assert used == sorted(used, reverse=True)
    assert len(used) == 3
    selective = [row for row in result.examples if row.chosen == "most selective"]
    assert all(row.documents >= 5 for row in selective)
    for row in result.examples:
        codes = [hit.code for hit in row.passages]
        assert codes == sorted(codes, reverse=True)
        assert all(
            word in hit.text.lower() or len(hit.text) == 240
            for word in row.words
            for hit in row.passages
        )


def test_a_run_goes_on_and_writes_the_same_report(small, studied, capsys):
    before = read_result(studied / "features.json", FEATURES)
    (path,) = (studied / "steps").glob("features-base-96-4-*")
    path.unlink()
    assert main([*WORDS, "--out", str(studied)]) == 0
    assert "steps were kept from an earlier run" in capsys.readouterr().out
    assert read_result(studied / "features.json", FEATURES) == before
    html = (studied / "report.html").read_text()
    assert ">Sparse features of embeddings</h2>" in html
    assert not re.search(r">[^<]*\b(nan|None)\b[^<]*<", html)
    markdown = mechanisms_report([(FEATURES, before)]).markdown()
    assert "| retriever, 96 features, k = 16 |" in markdown


def test_ratios_are_of_means_and_their_interval_draws_pairs():
    rng = np.random.default_rng(0)
    bottom = rng.uniform(1, 3, 400)
    top = 0.5 * bottom
    assert ratio_of_means(top, bottom) == pytest.approx((0.5, 0.5, 0.5))
    noisy = ratio_of_means(top + rng.normal(0, 1, 400), bottom)
    assert noisy.low < 0.5 < noisy.high
    spread = (noisy.high - noisy.low) / 2 / 1.96
    assert spread == pytest.approx(1 / 20 / bottom.mean(), rel=0.15)
    assert ratio_of_means([1, 0], [0, 2]).mean == 0.5
    assert np.isnan(ratio_of_means([1, 2], [0, 0])).all()
    assert np.isnan(ratio_of_means([], [])).all()
    with pytest.raises(ValueError, match="two vectors of one length"):
        ratio_of_means([1.0], [1.0, 2.0])


def test_wrong_settings_are_errors():
    with pytest.raises(ValueError, match="k: expected at most the smallest number of features, 8"):
        FeatureSettings(world="tiny", n_features=(16, 8), k=(9,))
    with pytest.raises(ValueError, match="k: expected one or more different values"):
        FeatureSettings(world="tiny", k=(4, 4))
    with pytest.raises(ValueError, match="autoencoder_epochs: expected 1 or more, got 0"):
        FeatureSettings(world="tiny", autoencoder_epochs=0)
    with pytest.raises(ValueError, match="autoencoder_learning_rate: expected a number above 0"):
        FeatureSettings(world="tiny", autoencoder_learning_rate=0.0)
