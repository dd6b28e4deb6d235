"""Finds where a model is by its name: a folder, the folder of a training, or the hub."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

_SECONDS = 10.0  # for the one request that asks whether the hub has a model
# Any of these makes a folder or a repository one that models are loaded from.
_MARKS = ("config.json", "tilefold.json", "modules.json", "adapter_config.json")
_TRAINED = "model"  # of a training's output folder, and of each of its checkpoints


def existing(name: str | Path) -> str:
    """Returns the absolute path of a model's folder, or the name of a model of the hub.

    The output folder of a training, and a checkpoint in it, have the model in the folder ``model``.

    Raises:
        FileNotFoundError: the name is a path, and there is no such folder; the hub has no such
            model, or cannot be reached and the model was not downloaded before.
    """
    folder = Path(name)
    if folder.is_dir():
        inside = folder / _TRAINED
        trained = not _is_model(folder) and _is_model(inside)
        return str((inside if trained else folder).absolute())
    if isinstance(name, Path) or name.startswith(("/", ".", "~")):
        raise FileNotFoundError(f"from_pretrained: there is no folder {name}")
    check_on_hub(name)
    return name


def _is_model(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in _MARKS)


@lru_cache
def check_on_hub(name: str) -> None:
    """Checks that the hub has a model, by one request that is not repeated.

    Loading asks for many files, and repeats each request for half a minute where nothing answers.

    Raises:
        FileNotFoundError: the name is none of the hub, or the hub cannot be reached and the model
            was not downloaded before.
    """
    import huggingface_hub

    hub: Any = huggingface_hub
    errors = hub.utils
    try:
        if any(isinstance(hub.try_to_load_from_cache(name, mark), str) for mark in _MARKS):
            return
        if hub.constants.HF_HUB_OFFLINE:
            _fail(name, "the hub is not asked in offline mode, and has not been before")
        url = hub.hf_hub_url(name, _MARKS[0])
        hub.get_hf_file_metadata(url, timeout=_SECONDS)
    except errors.GatedRepoError:
        return  # loading says what to accept
    except (errors.HFValidationError, errors.RepositoryNotFoundError) as error:
        _fail(name, "there is no model of this name on the hub that you may read", error)
    except FileNotFoundError:
        raise
    except errors.HfHubHTTPError:
        return  # it answers, and perhaps has another of the files: loading finds out
    except Exception as error:  # requests and httpx, of different releases, have their own
        _fail(name, f"the hub cannot be reached ({type(error).__name__})", error)


def _fail(name: str, reason: str, error: Exception | None = None) -> NoReturn:
    similar = difflib.get_close_matches(name, ["minilm"], n=1)
    similar += difflib.get_close_matches(name, _folders_beside(name), n=1, cutoff=0.8)
    hint = f"; did you mean {similar[0]}?" if similar else ""
    raise FileNotFoundError(
        f"from_pretrained: there is no folder {name}, and {reason}{hint}"
    ) from error


def _folders_beside(name: str) -> list[str]:
    """Lists the folders in the parent of a path that was perhaps meant."""
    parent = Path(name).parent
    if not parent.is_dir():
        return []
    return [str(path) for path in parent.iterdir() if path.is_dir()]
