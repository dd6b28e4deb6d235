"""Names of models: folders of trainings, and names that the hub does not have."""

import http.server
import threading
from pathlib import Path

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("huggingface_hub")

from tilefold.models import BiEncoder, CausalLM, Encoder
from tilefold.models.checkpoints import model_names

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def output(tiny_bert: Path, tmp_path: Path) -> Path:
    """A training's output folder, with a checkpoint."""
    model = BiEncoder.from_pretrained(tiny_bert, pooling="cls", query_prefix="of ")
    for folder in (tmp_path, tmp_path / "checkpoint-2"):
        model.save_pretrained(folder / "model")
    (tmp_path / "train.yaml").write_text("seed: 1\n")
    return tmp_path


def test_the_folder_of_a_training_is_the_model_inside(output):
    expected = BiEncoder.from_pretrained(output / "model").encode_queries(["who is w1"])
    for folder in (output, output / "checkpoint-2"):
        for name in (folder, str(folder)):
            found = BiEncoder.from_pretrained(name)
            np.testing.assert_array_equal(found.encode_queries(["who is w1"]), expected)
            assert found.query_encoder.prefix == "of "
    assert Encoder.from_pretrained(output, prefix="").pooling == "cls"


def test_a_model_with_a_folder_of_that_name_is_itself(tiny_bert, output):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    transformers.AutoModel.from_pretrained(tiny_bert).save_pretrained(output)
    tokenizer.save_pretrained(output)
    assert Encoder.from_pretrained(output).pooling == "mean"


def test_untied_towers_of_a_training_are_found(tiny_bert, tmp_path):
    BiEncoder.from_pretrained(tiny_bert, tied=False).save_pretrained(tmp_path / "model")
    assert not BiEncoder.from_pretrained(tmp_path).tied


# ---- the hub -------------------------------------------------------------------------------------


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does, which is read when the package is imported."""
    template = hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    template = template.replace(hub.constants.ENDPOINT, endpoint)
    monkeypatch.setattr(hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch):
    """A hub on this machine; yields the status that it answers with, and the paths it was asked."""
    asked: list[str] = []
    answer = {"status": 404, "code": "RepoNotFound"}

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(answer["status"])
            self.send_header("X-Error-Code", answer["code"])
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    model_names.check_on_hub.cache_clear()
    yield answer, asked
    server.shutdown()
    server.server_close()
    model_names.check_on_hub.cache_clear()


@pytest.mark.parametrize("load", [BiEncoder, Encoder, CausalLM], ids=lambda kind: kind.__name__)
def test_a_name_that_the_hub_does_not_have_is_asked_for_once(answers, load):
    _, asked = answers
    name = "nobody/has-this-model"
    with pytest.raises(FileNotFoundError, match="no folder nobody/has-this-model, and there is no"):
        load.from_pretrained(name)
    # Besides what the client asks for itself, once in a process.
    about = [path for path in asked if name in path]
    assert about == [f"/{name}/resolve/main/config.json"]


def test_a_hub_that_cannot_be_reached_is_an_error_at_once(monkeypatch):
    """Port 9 of this machine refuses; loading would try again for over 100 seconds."""
    point_at("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr(
        "time.sleep", lambda seconds: pytest.fail(f"waits {seconds} s to try again")
    )
    with pytest.raises(FileNotFoundError, match=r"the hub cannot be reached \(\w+\)"):
        BiEncoder.from_pretrained("nobody/has-this-model")


def test_an_answer_other_than_no_is_left_to_loading(answers):
    answer, asked = answers
    answer |= {"status": 503, "code": ""}
    model_names.check_on_hub("some/model")
    answer |= {"status": 403, "code": "GatedRepo"}
    model_names.check_on_hub("gated/model")
    answer |= {"status": 404, "code": "EntryNotFound"}
    model_names.check_on_hub("adapter/model")
    answer |= {"status": 200, "code": ""}
    model_names.check_on_hub("there/model")
    assert len([path for path in asked if "model" in path]) == 4


def test_in_offline_mode_nothing_is_asked(answers, monkeypatch):
    _, asked = answers
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="offline mode"):
        BiEncoder.from_pretrained("nobody/has-this-model")
    assert asked == []


def test_a_downloaded_model_is_not_asked_for(answers, monkeypatch, tmp_path):
    _, asked = answers
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    kept = hub.try_to_load_from_cache
    monkeypatch.setattr(
        hub, "try_to_load_from_cache", lambda name, file: kept(name, file, cache_dir=tmp_path)
    )
    model_names.check_on_hub("some/model")
    assert asked == []


@pytest.mark.parametrize(
    ("name", "meant"), [("minilmm", "minilm"), ("out/modle", "out/model"), ("a b/c/d", None)]
)
def test_a_similar_name_is_proposed(answers, name, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "model").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as caught:
        BiEncoder.from_pretrained(name)
    assert str(caught.value).endswith(f"did you mean {meant}?") == (meant is not None)
