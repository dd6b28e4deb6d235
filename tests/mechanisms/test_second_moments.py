"""Second moments of keys: against NumPy, and kept in files that only the same inputs read."""

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

import tilefold.mechanisms.editing.second_moments as module
from editable_models import TEXTS, editable
from tilefold.files.done_once import WrongChecksumError
from tilefold.mechanisms import feed_forwards, second_moments

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=["BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM"])
def model(request, tmp_path):
    return editable(request.param, tmp_path / "model")


def keys_of(model, layer: int) -> np.ndarray:
    """The inputs of an output layer at every token, one text at a time."""
    rows = []
    hook = feed_forwards(model)[layer].output.register_forward_hook(
        lambda _, args, out: rows.append(args[0].reshape(-1, args[0].shape[-1]))
    )
    with torch.no_grad():
        for text in TEXTS:
            model(model.pad([dict(model.tokenizer(text))]))
    hook.remove()
    return torch.cat(rows).double().numpy()


@pytest.mark.parametrize("batch_size", [1, 32])
def test_moments_are_those_of_all_tokens(model, batch_size):
    found = second_moments(model, TEXTS, batch_size=batch_size)
    assert list(found.matrices) == [0, 1, 2]
    for layer, matrix in found.matrices.items():
        keys = keys_of(model, layer)
        assert found.count == len(keys)
        np.testing.assert_allclose(matrix.numpy(), keys.T @ keys / len(keys), rtol=1e-4, atol=1e-5)


def test_long_texts_are_truncated(model):
    cut = [" ".join(["the hen"] * 40)]
    found = second_moments(model, cut, layers=[1])
    assert found.count == model.max_length
    assert list(found.matrices) == [1]


def test_files_are_read_by_the_same_inputs_alone(model, tmp_path, monkeypatch):
    folder, calls = tmp_path / "moments", []
    plain = module._computed

    def counted(*arguments):
        calls.append(list(arguments[2]))
        return plain(*arguments)

    monkeypatch.setattr(module, "_computed", counted)
    first = second_moments(model, TEXTS, layers=[0, 2], folder=folder)
    every = second_moments(model, TEXTS, folder=folder)
    assert calls == [[0, 2], [1]]
    shutil.copytree(folder, tmp_path / "another machine")
    again = second_moments(model, TEXTS, folder=tmp_path / "another machine")
    assert len(calls) == 2
    assert again.count == first.count == every.count
    for layer, matrix in every.matrices.items():
        assert torch.equal(matrix, again.matrices[layer])
        if layer in first.matrices:
            assert torch.equal(matrix, first.matrices[layer])
    second_moments(model, TEXTS[:-1], layers=[0], folder=folder)
    next(model.model.base_model.parameters()).data += 0.01
    second_moments(model, TEXTS, layers=[0], folder=folder)
    assert calls[2:] == [[0], [0]]


def test_other_layers_have_files_of_their_own(tmp_path):
    model = editable("BertForMaskedLM", tmp_path / "model")
    ffn = second_moments(model, TEXTS, layers=[0], folder=tmp_path)
    names = [("attention.self.value", "attention.output.dense")]
    found = second_moments(model, TEXTS, layers=[0], folder=tmp_path, names=names)
    assert (ffn.matrices[0].shape, found.matrices[0].shape) == ((64, 64), (32, 32))
    model.model.bert.embeddings.LayerNorm.weight.data *= 2
    again = second_moments(model, TEXTS, layers=[0], folder=tmp_path)
    assert not torch.equal(again.matrices[0], ffn.matrices[0])


def test_a_damaged_file_is_an_error(model, tmp_path):
    second_moments(model, TEXTS, layers=[0], folder=tmp_path)
    (path,) = tmp_path.glob("moments-*.safetensors")
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(WrongChecksumError, match="does not match its checksum"):
        second_moments(model, TEXTS, layers=[0], folder=tmp_path)


def test_directions_that_no_text_has_can_be_solved_for(model):
    found = second_moments(model, TEXTS[:1])
    matrix = found.at("test", 0)
    spread = torch.linalg.eigvalsh(found.matrices[0])
    assert spread[0] < 1e-6 * spread[-1]
    solved = torch.linalg.solve(matrix, torch.ones(len(matrix)).double())
    torch.testing.assert_close(matrix @ solved, torch.ones(len(matrix)).double())


def test_wrong_arguments_are_errors(model):
    with pytest.raises(ValueError, match="expected one text or more, got none"):
        second_moments(model, [])
    with pytest.raises(TypeError, match="texts is one string"):
        second_moments(model, "the hen")
    with pytest.raises(ValueError, match="layers must be 0 to 2, got 3"):
        second_moments(model, TEXTS, layers=[1, 3])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        second_moments(model, TEXTS, batch_size=0)
