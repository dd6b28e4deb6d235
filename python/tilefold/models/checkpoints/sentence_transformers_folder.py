"""Reads and writes folders of sentence-transformers.

Transformer, Pooling, Dense and Normalize are supported, with prompts; another module, or an option
that would change vectors, is an error that names it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import nn

from ...files.strict_json import read_strict
from .. import projection
from . import encoder_settings
from .weights import find

MODULES = "modules.json"
_TRANSFORMER, _PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
_POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken"}  # ours -> theirs
_POOLINGS_BEFORE_6 = {  # one flag for each mode
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_EXPECTED = {  # of the module Transformer; None: not set, or empty
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    **dict.fromkeys(("do_lower_case", "processing_kwargs", "query_expansion")),
    **dict.fromkeys(("model_kwargs", "processor_kwargs", "config_kwargs")),
    **dict.fromkeys(("model_args", "tokenizer_args", "config_args")),  # their names before 6
}
# Prompts that sentence-transformers documents for documents, and 6.2 does not reach: it adds an
# empty "document", which comes first.
_NOT_REACHED = ("passage", "corpus")


class Settings(NamedTuple):
    """Arguments of an Encoder of queries and of one of documents, and the default prompt."""

    query: dict[str, Any]
    document: dict[str, Any]
    default_prefix: str | None = None  # of texts that are neither


def read(name: str | Path) -> Settings:
    """Reads modules and prompts as arguments of an Encoder of queries and of one of documents.

    Args:
        name: folder or hub name.

    Returns:
        pooling, normalize, projection, prefix and max_length (None: as many as the model can read),
        for each of the two; empty without modules.json.

    Warns:
        UserWarning: a prompt of documents that sentence-transformers does not apply.

    Raises:
        ValueError: a module or an option that has no counterpart here.
    """
    path = find(name, MODULES)
    if path is None:
        return Settings({}, {})
    modules = _read_modules(path)
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if "Router" in kinds:
        raise ValueError(
            f"{path}: a Router is not supported; save the modules of each route as a folder of "
            "its own; BiEncoder.from_pretrained takes that of queries, and document= the other"
        )
    after_pooling = kinds[2:]
    dense = [index for index, kind in enumerate(kinds) if kind == "Dense"]
    in_order = ["Dense"] * len(dense) + ["Normalize"] * ("Normalize" in after_pooling)
    if kinds[:2] != ["Transformer", "Pooling"] or after_pooling != in_order:
        raise ValueError(
            f"{path}: expected the modules Transformer, Pooling, Dense (any number) and at most "
            f"one Normalize, in this order, got {kinds}"
        )
    if modules[0]["path"]:
        raise ValueError(f"{path}: the module Transformer is in {modules[0]['path']!r}, not beside")
    steps = [_read_dense(name, modules[index]["path"]) for index in dense]
    query_prefix, document_prefix, default = _read_prompts(name)
    _check_include_prompt(name, modules[1]["path"], query_prefix, document_prefix)
    shared = {
        "pooling": _read_pooling(name, modules[1]["path"]),
        "normalize": "Normalize" in kinds,
        "projection": projection.build(steps),
    }
    prefixes = query_prefix, document_prefix
    query, document = (
        {**shared, "prefix": prefix, "max_length": length}
        for prefix, length in zip(prefixes, _read_lengths(name), strict=True)
    )
    return Settings(query, document, default)


def write(
    folder: Path,
    *,
    pooling: str,
    normalize: bool,
    dim: int,
    projection_module: nn.Module | None,
    prefixes: Mapping[str, str],
    max_lengths: Mapping[str, int],
    default: str | None,
) -> None:
    """Writes modules.json and the modules that it names, beside a model and its tokenizer.

    Args:
        folder: the folder of the model.
        pooling, normalize: of the encoder.
        dim: of the vectors that are pooled.
        projection_module: of the encoder.
        prefixes, max_lengths: of "query" and "document".
        default: the prompt of texts that are neither.

    Raises:
        ValueError: a pooling or a projection that sentence-transformers does not have.
    """
    if pooling not in _POOLINGS:
        raise ValueError(
            f"export_sentence_transformers: it has no pooling {pooling!r}, only {list(_POOLINGS)}"
        )
    modules = [("", "Transformer")]
    lengths: dict[str, Any] = {"max_seq_length": max(max_lengths.values())}
    if len(set(max_lengths.values())) > 1:
        lengths |= {f"{task}_length": length for task, length in max_lengths.items()}
    _write_json(folder / _TRANSFORMER, {**lengths, "do_lower_case": False})
    modules.append((f"{len(modules)}_Pooling", "Pooling"))
    theirs = _POOLINGS[pooling]
    flags = {flag: mode == theirs for flag, mode in _POOLINGS_BEFORE_6.items()}
    _write_json(folder / modules[-1][0] / "config.json", {"word_embedding_dimension": dim, **flags})
    for step in projection.steps(projection_module):
        modules.append((f"{len(modules)}_Dense", "Dense"))
        _write_dense(folder / modules[-1][0], step)
    if normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    named = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    _write_json(folder / MODULES, named)
    similarity = "cosine" if normalize else "dot"
    prompts = {"prompts": dict(prefixes), "default_prompt_name": default}
    _write_json(folder / _PROMPTS, {**prompts, "similarity_fn_name": similarity})


def _read_pooling(name: str | Path, folder: str) -> str:
    path, config = _config(name, f"{folder}/config.json")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLINGS_BEFORE_6.items() if config.get(flag)]
    modes = [modes] if isinstance(modes, str) else list(modes) or ["mean"]
    ours = {mode: mine for mine, mode in _POOLINGS.items()}
    if len(modes) != 1 or modes[0] not in ours:
        raise ValueError(f"{path}: expected one pooling of {list(ours)}, got {modes}")
    return ours[modes[0]]


def _check_include_prompt(name: str | Path, folder: str, *prefixes: str) -> None:
    path, config = _config(name, f"{folder}/config.json")
    if any(prefixes) and not config.get("include_prompt", True):
        raise ValueError(
            f"{path}: include_prompt is false, but prefixes are always pooled here, and there is "
            f"the prompt {max(prefixes)!r}"
        )


def _read_dense(name: str | Path, folder: str) -> projection.Dense:
    path, config = _config(name, f"{folder}/config.json")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    kind = activation.rpartition(".")[2]
    if kind not in projection.ACTIVATIONS or not activation.startswith("torch.nn."):
        raise ValueError(
            f"{path}: activation_function must be one of {list(projection.ACTIVATIONS)}, "
            f"got {activation!r}"
        )
    places = {config.get(f"module_{way}_name") for way in ("input", "output")}
    if config.get("use_residual") or not places <= {None, "sentence_embedding"}:
        raise ValueError(f"{path}: a Dense with a residual or other inputs is not supported")
    if (weights := find(name, f"{folder}/model.safetensors")) is not None:
        tensors = safetensors.torch.load_file(weights)
    elif (weights := find(name, f"{folder}/pytorch_model.bin")) is not None:
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
    else:
        raise FileNotFoundError(f"{name}: the weights of {folder} are missing")
    return projection.Dense(projection.linear(tensors, "linear."), kind)


def _write_dense(folder: Path, step: projection.Dense) -> None:
    linear, activation = step
    kind = type(projection.ACTIVATIONS[activation]())
    config = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation_function": f"{kind.__module__}.{kind.__name__}",
    }
    _write_json(folder / "config.json", config)
    tensors = {
        f"linear.{key}": t.detach().cpu().contiguous() for key, t in linear.state_dict().items()
    }
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def _read_lengths(name: str | Path) -> tuple[int | None, int | None]:
    """Reads the maximum lengths of queries and of documents."""
    path, config = _config(name, _TRANSFORMER)
    for field, value in _EXPECTED.items():
        if config.get(field) and config[field] != value:
            raise ValueError(f"{path}: {field}={config[field]!r} is not supported")
    whole = config.get("max_seq_length")
    return config.get("query_length") or whole, config.get("document_length") or whole


def _read_prompts(name: str | Path) -> tuple[str, str, str | None]:
    """Reads the prefixes of queries, of documents, and of texts that are neither.

    As sentence-transformers applies them: the default is for texts that are neither alone.
    """
    path, config = _config(name, _PROMPTS)
    if config.get("truncate_dim"):
        raise ValueError(
            f"{path}: truncate_dim={config['truncate_dim']} is not supported; without it, vectors "
            "have all dimensions"
        )
    prompts = {"query": "", "document": ""}
    for key, text in (config.get("prompts") or {}).items():
        if not isinstance(text, str | None):
            raise ValueError(f"{path}: the prompt {key!r} must be a string, got {text!r}")
        prompts[key] = text or ""
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ValueError(
            f"{path}: default_prompt_name must be one of {list(prompts)}, got {default!r}"
        )
    unused = [key for key in _NOT_REACHED if prompts.get(key) and not prompts["document"]]
    if unused:
        warnings.warn(
            f"{path}: sentence-transformers puts no prompt before documents, as "
            f"'document' is empty or missing; to use that of {unused[0]!r}, pass "
            f"document_prefix={prompts[unused[0]]!r}",
            stacklevel=2,
        )
    return prompts["query"], prompts["document"], prompts[default] if default else None


def _config(name: str | Path, filename: str) -> tuple[Path | None, dict[str, Any]]:
    path = find(name, filename)
    return path, {} if path is None else encoder_settings.read_json(path)


def _read_modules(path: Path) -> list[dict[str, str]]:
    """Reads the list of modules, each with its type and its folder."""
    modules = read_strict(path)
    for module in modules if isinstance(modules, list) else [None]:
        fields = module if isinstance(module, dict) else {}
        if not all(isinstance(fields.get(name), str) for name in ("type", "path")):
            raise ValueError(
                f"{path}: expected a list of modules with 'type' and 'path', got {modules!r:.80}"
            )
    return list(modules)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
