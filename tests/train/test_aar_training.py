"""Training of AAR: equation (7) against a loop, the configurations of the paper, their models."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import load

from tilefold.data import TrainingSet
from tilefold.losses import ContrastiveLoss, contrastive_loss
from tilefold.models import FusionInDecoder
from tilefold.ragged_lists import Lists
from tilefold.train import ContrastiveObjective, DrawRotating, train_step
from tilefold.train.trainer_setup import prepare
from tilefold.train.yaml_arguments import parse
from word_tokenizer import save_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = Path(__file__).parents[2] / "examples"
BATCH, POSITIVES, NEGATIVES = 8, 3, 7
WORDS = ["title", "text", ":", "who", "is", *(f"w{i}" for i in range(60))]
T5_TOKENS = {"around": "$A </s>", "special": ["</s>"], "length": 512, "eos_token": "</s>"}


# ---- equation (7) --------------------------------------------------------------------------------


def naive_loss(queries, passages, temperature, counts):
    """Equation (7) with cross entropy, as section 3.2 and the code read it.

    Query i owns the passages 10 i to 10 i + 9, its positives first. Each positive is the target of
    a softmax over itself and all passages that are no positive of the query.
    """
    losses = []
    for i, query in enumerate(queries):
        own = range(10 * i, 10 * i + POSITIVES)
        for positive in own:
            candidates = [positive, *(j for j in range(len(passages)) if j not in own)]
            counts.append(len(candidates))
            scores = [query @ passages[j] / temperature for j in candidates]
            largest = torch.stack(scores).detach().max()
            total = sum(torch.exp(score - largest) for score in scores)
            losses.append(largest + torch.log(total) - scores[0])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_the_loss_is_equation_7_over_78_candidates(temperature):
    generator = torch.Generator().manual_seed(0)
    shapes = (BATCH, 24), (BATCH * 10, 24)
    ours = [torch.randn(shape, generator=generator, dtype=torch.float64) / 4 for shape in shapes]
    theirs = [x.clone().requires_grad_() for x in ours]
    ours = [x.requires_grad_() for x in ours]
    positives = [[10 * i + j for j in range(POSITIVES)] for i in range(BATCH)]
    loss = contrastive_loss(*ours, positives, temperature=temperature, mode="each")
    counts: list[int] = []
    expected = naive_loss(*theirs, temperature, counts)
    assert counts == [78] * (BATCH * POSITIVES)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)


def a_set_of_the_paper(n: int = BATCH, negatives: int = 30) -> TrainingSet:
    """Queries with three positives and 30 hard negatives, all of them different texts."""
    size = POSITIVES + negatives
    texts = [f"w{i % 59} w{(i * 7) % 53} w{i // 59}" for i in range(n * size)]
    return TrainingSet(
        [f"q{i}" for i in range(n)],
        [f"who is w{i}" for i in range(n)],
        [f"d{i}" for i in range(n * size)],
        texts,
        Lists.pack([range(i * size, i * size + POSITIVES) for i in range(n)]),
        Lists.pack([range(i * size + POSITIVES, (i + 1) * size) for i in range(n)]),
        [()] * n,
    )


def test_a_training_step_computes_equation_7(tiny_bert):
    """From the training set through the drawing policy and the encoder to the loss."""
    data = a_set_of_the_paper()
    assert len(set(data.documents)) == len(data.documents)
    policy = DrawRotating(data, n_negatives=NEGATIVES, steps_per_epoch=1, seed=0)
    batch = policy.batch(range(BATCH), step=3)
    assert len(batch.documents) == 10 * BATCH
    assert batch.negatives() == 77
    objective = ContrastiveObjective(load(tiny_bert), ContrastiveLoss(0.05)).eval()
    loss = train_step(objective, batch).value
    embedded = (
        objective.model.encode_queries(batch.queries),
        objective.model.encode_documents(batch.documents),
    )
    queries, passages = (torch.from_numpy(x).double() for x in embedded)
    assert float(loss) == pytest.approx(float(naive_loss(queries, passages, 0.05, [])), rel=1e-4)


# ---- configurations ------------------------------------------------------------------------------

SHARED = {
    "untie_encoder": False,
    "normalize": False,
    "query_prefix": "",
    "passage_prefix": "",
    "title_format": "Title: {title} Text: {text}",
    "query_max_len": 32,
    "passage_max_len": 128,
    "train_path": "build/aar/train.jsonl",
    "train_group_size": 8,
    "positives_per_query": 3,
    "positives_mode": "each",
    "negatives_rotation": True,
    "remove_query": "none",
    "dev_holdout": 500,
    "dev_holdout_last": True,
    "dev_measures": ["loss"],
    "per_device_eval_batch_size": 8,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "optim": "adamw_torch",
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
    "seed": 42,
    "eval_strategy": "steps",
    "eval_steps": 4000,
    "save_steps": 10000,
    "logging_steps": 500,
}
CONFIGURATIONS = {
    "aar_ance.yaml": {
        **SHARED,
        "model_name_or_path": "OpenMatch/t5-ance",
        "pooling": "decoder",
        "learning_rate": 5e-6,
        "num_train_epochs": 6,
        "temperature": 1.0,
    },
    "aar_contriever.yaml": {
        **SHARED,
        "model_name_or_path": "facebook/contriever-msmarco",
        "pooling": "mean",
        "learning_rate": 1e-5,
        "num_train_epochs": 3,
        "temperature": 0.05,
    },
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_has_the_values_of_the_paper(name, monkeypatch):
    for variable in ("AAR_MODEL", "AAR_TRAIN", "AAR_OUTPUT"):
        monkeypatch.delenv(variable, raising=False)
    values: dict[str, object] = {}
    for part in parse([], EXAMPLES / name):
        values |= vars(part)
    for key, expected in CONFIGURATIONS[name].items():
        assert values[key] == expected, key
    # Each value of the file is compared above, or says where things are and how they are shown.
    keys = {line.partition(":")[0] for line in (EXAMPLES / name).read_text().splitlines()}
    named = {key for key in keys if key and not key.startswith("#")}
    assert named - CONFIGURATIONS[name].keys() == {
        "output_dir",
        "report_to",
        "save_strategy",
        "use_cpu",
    }


# ---- models of the paper's shapes, with random weights -------------------------------------------


def write_training_file(path: Path, n: int) -> Path:
    """A file of Tevatron with three positives and 30 negatives for each query."""
    lines = []
    for i in range(n):
        passages = [
            {"docid": f"d{i}-{j}", "title": f"w{j}", "text": f"w{i} w{j} is w{(i + j) % 60}"}
            for j in range(33)
        ]
        query = {"query_id": f"q{i}", "query": f"who is w{i}"}
        positives, negatives = passages[:3], passages[3:]
        lines.append(
            json.dumps({**query, "positive_passages": positives, "negative_passages": negatives})
        )
    path.write_text("\n".join(lines))
    return path


def save_model(folder: Path, name: str, sizes: dict[str, object]) -> Path:
    """Saves a model with random weights, and a tokenizer of words with the tokens of its family."""
    torch.manual_seed(0)
    if name.startswith("aar_ance"):
        model = transformers.T5Model(transformers.T5Config(**sizes))
        save_tokenizer(folder, WORDS, **T5_TOKENS)
    else:
        model = transformers.BertModel(transformers.BertConfig(**sizes))
        save_tokenizer(folder, WORDS, cls_token="[CLS]", sep_token="[SEP]", length=512)
    model.save_pretrained(folder)
    return folder


def one_step_of(name: str, model: Path, folder: Path):
    """Trains by a configuration for one step, with its batch of eight queries."""
    file = write_training_file(folder / "train.jsonl", 20)
    words = ["--model_name_or_path", str(model), "--train_path", str(file)]
    words += ["--output_dir", str(folder / "out"), "--dev_holdout", "4", "--disable_tqdm", "true"]
    words += ["--max_steps", "1", "--logging_steps", "1", "--eval_strategy", "no"]
    trainer = prepare(parse([*words, "--save_strategy", "no"], EXAMPLES / name))
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    return trainer, before, logged


def check_step(trainer, before: float, logged: dict[str, float], dim: int) -> None:
    # Eight queries with 10 passages each; none has a passage of another.
    assert logged["n_negatives"] == 77
    assert trainer.draw.steps_per_epoch == 2
    for value in (before, logged["loss"], logged["grad_norm"]):
        assert math.isfinite(value)
        assert value > 0
    model = trainer.training_objective.model
    assert model.encode_queries(["who is w1"] * BATCH).shape == (BATCH, dim)
    assert model.encode_documents(["w1 w2", "w3"], ["w4", ""]).shape == (2, dim)


TINY = {
    "aar_ance.yaml": {
        "vocab_size": 80, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": 0,
    },
    "aar_contriever.yaml": {
        "vocab_size": 80, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48,
    },
}  # fmt: skip
# The shapes of T5-base, which ANCE fine-tunes, and of BERT-base, which is Contriever's.
FULL = {
    "aar_ance.yaml": {
        "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12,
        "num_heads": 12, "decoder_start_token_id": 0,
    },
    "aar_contriever.yaml": {"vocab_size": 30522},
}  # fmt: skip
PARAMETERS = {"aar_ance.yaml": 222_903_552, "aar_contriever.yaml": 109_482_240}
FLAN_T5_BASE = {
    "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12,
    "num_heads": 12, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0,
    "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_trains_a_tiny_model_of_its_family(name, tmp_path):
    model = save_model(tmp_path / "model", name, TINY[name])
    check_step(*one_step_of(name, model, tmp_path), dim=32)


@pytest.mark.slow  # 110 and 223 million weights are initialised, saved, loaded and trained
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_trains_a_model_of_the_shape_of_its_checkpoint(name, tmp_path):
    model = save_model(tmp_path / "model", name, FULL[name])
    trainer, *found = one_step_of(name, model, tmp_path)
    weights = trainer.training_objective.model.parameters()
    assert sum(parameter.numel() for parameter in weights) == PARAMETERS[name]
    check_step(trainer, *found, dim=768)


@pytest.mark.slow  # 248 million weights are initialised
def test_a_source_lm_of_the_shape_of_flan_t5_base_scores_ten_passages(tmp_path):
    torch.manual_seed(0)
    save_tokenizer(tmp_path, WORDS, **T5_TOKENS)
    config = transformers.T5Config(**FLAN_T5_BASE)
    config.tie_word_embeddings = False  # transformers 5 overrides the argument of the same name
    model = transformers.T5ForConditionalGeneration(config)
    model.set_input_embeddings(model.shared)  # of encoder and decoder; the head has its own
    assert sum(parameter.numel() for parameter in model.parameters()) == 247_577_856
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    source = FusionInDecoder(model, tokenizer)
    prompts = [[f"w{i} w{j} who is w{j}" for j in range(10)] for i in range(2)]
    scores = source.attention_scores(prompts)
    assert scores.shape == (2, 10)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 20
