"""The study of patching: its shares are those of sweeps, and it says where there is no effect."""

import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from small_bases import use_small_bases

from tilefold.cli.main import main
from tilefold.mechanisms import AxiomaticPairs, axiomatic_pairs, patching_sweep
from tilefold.mechanisms.patching.token_classes import TOKEN_CLASSES, token_classes
from tilefold.studies.patching import PATCHING, PatchingResult, PatchingSettings
from tilefold.studies.patching.axiom_effects import axiom_effect
from tilefold.studies.report_pages import mechanisms_report
from tilefold.studies.study import Reporter
from tilefold.studies.study_file import read_result
from tilefold.studies.subject import load_subject

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["mechanisms", "patching", "--world", "tiny", "--pairs", "6", "--by-token"]


@pytest.fixture(scope="module")
def studied(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("patching") / "out"
    with pytest.MonkeyPatch.context() as patch:
        use_small_bases(patch, cache)
        assert main([*WORDS, "--out", str(out)]) == 0
    return out


def fake_sweep(gaps: list[float]) -> dict[str, np.ndarray]:
    """Two layers of two heads, which recover 0, 1, 2 and 3 tenths; blocks half and nothing."""
    gap = np.array(gaps)
    corrupted = np.arange(len(gap), dtype=float)
    heads = corrupted[:, None, None] + gap[:, None, None] * np.array([[0, 0.1], [0.2, 0.3]])
    blocks = corrupted[:, None] + gap[:, None] * np.array([0.5, 0])
    return {
        "clean": corrupted + gap,
        "corrupted": corrupted,
        "heads": heads,
        "feed_forward": blocks,
    }


def pairs_of(n: int) -> AxiomaticPairs:
    texts = ("x",) * n
    return AxiomaticPairs("TFC1", tuple(range(n)), texts, texts, texts, (1,) * n, 2)


def test_shares_are_ratios_of_sums_even_where_a_pair_has_no_difference():
    found = axiom_effect(pairs_of(4), "base", fake_sweep([1.0, 2.0, 0.0, 3.0]))
    np.testing.assert_allclose(found.heads, [[0, 0.1], [0.2, 0.3]], atol=1e-12)
    np.testing.assert_allclose(found.feed_forward, [0.5, 0], atol=1e-12)
    assert (found.verdict, found.agreeing, found.pairs, found.skipped) == ("holds", 0.75, 4, 2)
    assert [one.component for one in found.strongest[:2]] == [
        "layer 0, feed-forward",
        "layer 1, head 1",
    ]
    assert found.strongest[0].share == pytest.approx((0.5, 0.5, 0.5))


def test_no_shares_are_reported_where_an_axiom_does_not_hold():
    found = axiom_effect(pairs_of(4), "base", fake_sweep([1.0, -1.0, 2.0, -2.0]))
    assert found.verdict == "does not hold"
    assert (found.heads, found.feed_forward, found.strongest, found.tokens) == ((), (), (), {})
    reversed_one = axiom_effect(pairs_of(3), "retriever", fake_sweep([-1.0, -2.0, -1.5]))
    assert reversed_one.verdict == "reversed"
    settings = PatchingSettings(world="tiny")
    result = PatchingResult(settings, "a title", (found, reversed_one), (), {})
    notes = " ".join(text for table in PATCHING.summary(result) for text in table.notes)
    assert "TFC1 does not hold for the base: the interval of the difference includes 0" in notes
    assert "TFC1 is reversed for the retriever" in notes
    markdown = mechanisms_report([(PATCHING, result)]).markdown()
    assert "TFC1 does not hold for the base" in markdown
    assert "| base, layer" not in markdown
    assert "| retriever, layer 0, feed-forward | 0.50 [0.50, 0.50] |" in markdown


def test_effects_are_those_of_sweeps(small, studied):
    result = read_result(studied / "patching.json", PATCHING)
    keys = [(row.axiom, row.model) for row in result.effects]
    assert keys == [(a, m) for a in ("TFC1", "TDC", "LNC1") for m in ("base", "retriever")]
    subject = load_subject(PatchingSettings(world="tiny"), paraphrases=(3,), progress=Reporter())
    data = subject.data
    checked = 0
    for row in result.effects:
        model = subject.models[row.model]
        encoder = model.document_encoder
        made = data.queries, data.documents, data.positives
        pairs = axiomatic_pairs(row.axiom, *made, encoder, n=6)
        queries = model.encode_queries([data.queries[q] for q in pairs.queries], progress=False)
        sweep = patching_sweep(encoder, pairs.clean, pairs.corrupted, queries, by_token=True)
        gaps = sweep.clean.astype(float) - sweep.corrupted
        assert row.pairs == 6
        assert row.effect.mean == pytest.approx(gaps.mean(), abs=1e-3)
        assert row.agreeing == pytest.approx((gaps > 0).mean())
        holds = row.effect.low > 0 or row.effect.high < 0
        assert bool(row.heads) == bool(row.strongest) == bool(row.tokens) == holds
        if not holds:
            continue
        checked += 1
        share = (sweep.heads.astype(float) - sweep.corrupted[:, None, None]).sum(0) / gaps.sum()
        np.testing.assert_allclose(row.heads, share, atol=2e-3)
        share = (sweep.feed_forward.astype(float) - sweep.corrupted[:, None]).sum(0) / gaps.sum()
        np.testing.assert_allclose(row.feed_forward, share, atol=2e-3)
        gains = sweep.tokens.astype(float) - sweep.corrupted[:, None, None]
        classes = token_classes(pairs, encoder)
        for place, name in enumerate(TOKEN_CLASSES):
            own = [pair for pair in range(6) if (classes[pair] == place).any()]
            total = sum(gaps[pair] for pair in own)
            for layer in range(len(row.feed_forward)):
                if not own:
                    assert np.isnan(row.tokens[name][layer])
                    continue
                gained = sum(gains[pair, layer, classes[pair] == place].sum() for pair in own)
                assert row.tokens[name][layer] == pytest.approx(gained / total, abs=5e-3)
        assert row.tokens["first token"][-1] == pytest.approx(1, abs=1e-3)  # pooled
    assert checked


def test_a_run_goes_on_and_writes_the_same_report(small, studied, capsys):
    before = read_result(studied / "patching.json", PATCHING)
    (path,) = (studied / "steps").glob("patching-TDC-base-*")
    path.unlink()
    assert main([*WORDS, "--out", str(studied)]) == 0
    assert "5 steps were kept from an earlier run" in capsys.readouterr().out
    again = read_result(studied / "patching.json", PATCHING)
    assert [row.verdict for row in again.effects] == [row.verdict for row in before.effects]
    html = (studied / "report.html").read_text()
    assert ">Axioms of retrieval</h2>" in html
    assert not re.search(r">[^<]*\b(nan|None)\b[^<]*<", html)


def test_axioms_without_pairs_are_left_out(tiny_bert, tmp_path, capsys):
    data = tmp_path / "few.jsonl"
    lines = [f'{{"query": "w{n}", "pos": ["w{n} w9"], "neg": ["w8"]}}' for n in range(4)]
    data.write_text("\n".join(lines) + "\n")
    words = ["--model", str(tiny_bert), "--base", str(tiny_bert), "--data", str(data)]
    out = tmp_path / "out"
    assert main(["mechanisms", "patching", *words, "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "TDC is left out" in said
    assert "a query must have two terms" in said
    result = read_result(out / "patching.json", PATCHING)
    assert {row.axiom for row in result.effects} == {"TFC1"}
    data.write_text('{"query": "w1", "pos": ["w2"], "neg": ["w3"]}\n')
    assert main(["mechanisms", "patching", *words, "--out", str(tmp_path / "none")]) == 1
    assert "no pair can be made for TFC1" in capsys.readouterr().err


def test_wrong_settings_are_errors():
    with pytest.raises(ValueError, match="pairs: expected 2 or more, got 1"):
        PatchingSettings(world="tiny", pairs=1)
