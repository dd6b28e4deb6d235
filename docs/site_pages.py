"""Adds pages to the documentation site that are not files of docs/: README, changelog, API.

mkdocs calls the functions `on_*` (a "hook", named in mkdocs.yml). Files outside docs/ that pages
link to, such as configurations in examples/, are copied into the site, so that every link works
offline.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from posixpath import normpath, relpath
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# Pages of the repository's root by their place in the site.
ROOT_PAGES = {
    "index.md": "README.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
}

# The public modules, with what each is for. tests/test_site.py compares the list with the package.
API = {
    "tilefold": "Exact search",
    "tilefold.losses": "Losses",
    "tilefold.activations": "Activations",
    "tilefold.models": "Models",
    "tilefold.data": "Data",
    "tilefold.evaluate": "Evaluation",
    "tilefold.mining": "Mining of hard negatives",
    "tilefold.train": "Training",
    "tilefold.train.objectives": "Objectives of training",
    "tilefold.scale": "Several machines",
    "tilefold.service": "Service",
    "tilefold.confidence": "Confidence",
    "tilefold.exposure": "Synthetic questions",
    "tilefold.world": "A small world of facts",
    "tilefold.mechanisms": "Mechanisms",
    "tilefold.aar": "AAR",
    "tilefold.invar": "Invar-RAG",
    "tilefold.invar.generation": "Invar-RAG: answers",
    "tilefold.report": "Reports",
    "tilefold.report.evaluation": "Reports of evaluations",
    "tilefold.report.training": "Reports of trainings",
    "tilefold.studies.probe": "Study: probes",
    "tilefold.studies.neurons": "Study: neurons",
    "tilefold.studies.edit": "Study: edits",
    "tilefold.studies.bound": "Study: bound by the base",
    "tilefold.studies.layers": "Study: layers",
    "tilefold.studies.patching": "Study: patching",
    "tilefold.studies.features": "Study: features",
    "tilefold.studies.directions": "Study: directions",
    "tilefold.studies.aar": "Study: AAR",
    "tilefold.studies.invar": "Study: Invar-RAG",
    "tilefold.studies.findings": "Study: findings over seeds",
    "tilefold.integrations.beir": "BEIR",
    "tilefold.integrations.faiss_style": "faiss",
    "tilefold.integrations.langchain": "LangChain",
    "tilefold.integrations.llama_index": "LlamaIndex",
    "tilefold.integrations.mteb": "MTEB",
    "tilefold.integrations.sentence_transformers": "sentence-transformers",
    "tilefold.testing": "Tolerances and timing",
}


def public_names(module: ModuleType) -> list[str]:
    """Returns the public names of a module: `__all__`, re-exports, or what it defines itself."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    path = Path(str(module.__file__))
    if path.name == "__init__.py":
        names = re.findall(r"import (\w+) as \1\b", path.read_text(encoding="utf-8"))
        own = {name for name in names if not isinstance(getattr(module, name), ModuleType)}
    else:
        own = {
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and callable(value)
        }
    return sorted(name for name in own if not name.startswith("_") or name == "__version__")


def names_of_page(name: str) -> list[str]:
    """Returns the public names of a module, without those that the package above exports, too."""
    module, parent = importlib.import_module(name), name.rpartition(".")[0]
    above = importlib.import_module(parent) if parent in API else None
    names = public_names(module)
    return [n for n in names if not above or getattr(above, n, None) is not getattr(module, n)]


def api_page(name: str) -> str:
    """Returns the reference of a module as Markdown with directives of mkdocstrings."""
    module = importlib.import_module(name)
    parts = [f"# {name}", (module.__doc__ or "").strip()]
    if names_of_page(name) != public_names(module):
        above = name.rpartition(".")[0]
        parts.append(f"Other names of this module are on the page of [{above}]({above}.md).")
    parts += [f"::: {definition(module, member)}" for member in names_of_page(name)]
    return "\n\n".join(parts) + "\n"


def definition(module: ModuleType, name: str) -> str:
    """Returns where a name is defined, as a function may share its name with its module."""
    value = getattr(module, name)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return f"{module.__name__}.{name}"


def api_path(name: str) -> str:
    """Returns the place of a module's page in the site."""
    return f"api/{name}.md"


def api_index() -> str:
    """Returns the page that lists the public modules."""
    lines = [
        "# API reference",
        "Every public name, by the module that exports it. Other modules may change at any time.",
        "| module | what it has |\n| --- | --- |\n"
        + "\n".join(f"| [{name}]({name}.md) | {what} |" for name, what in API.items()),
    ]
    return "\n\n".join(lines) + "\n"


def on_config(config: Any) -> Any:
    """Puts the pages of the API into the navigation."""
    pages = [{name: api_path(name)} for name in API]
    for entry in config.nav:
        if "API reference" in entry:
            entry["API reference"] = ["api/index.md", *pages]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds generated pages, and the files outside docs/ that pages link to."""
    from mkdocs.structure.files import File

    texts = {place: (ROOT / name).read_text(encoding="utf-8") for place, name in ROOT_PAGES.items()}
    texts |= {"api/index.md": api_index()} | {api_path(name): api_page(name) for name in API}
    for place, text in texts.items():
        files.append(File.generated(config, place, content=text))
    pages = [page for page in files if page.is_documentation_page()]
    for target in sorted(set().union(*(copied_files(page) for page in pages))):
        path = str(ROOT / target)
        files.append(File.generated(config, target, abs_src_path=path))
    return files


def source_of(place: str) -> str:
    """Returns the path in the repository of a page of the site."""
    return ROOT_PAGES.get(place, f"docs/{place}")


def links(text: str) -> list[str]:
    """Returns the targets of a page's links to files, without anchors."""
    return [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]


def copied_files(page: Any) -> set[str]:
    """Returns the files outside docs/ that a page links to and that are not pages themselves."""
    source = source_of(page.src_uri)
    targets = {normpath(f"{source}/../{target}") for target in links(page.content_string)}
    outside = {target for target in targets if not target.startswith("docs/")}
    return {t for t in outside if (ROOT / t).is_file()} - set(ROOT_PAGES.values())


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    place = page.file.src_uri
    if place.startswith("api/"):
        return markdown
    source = source_of(place)
    places = {name: site for site, name in ROOT_PAGES.items()}

    def moved(match: re.Match[str]) -> str:
        target = match[1]
        if "://" in target or not target:
            return match[0]
        path = normpath(f"{source}/../{target}")
        to = places.get(path, path.removeprefix("docs/"))
        return f"]({relpath(to, Path(place).parent.as_posix())}"

    return re.sub(r"\]\(([^)#\s]*)", moved, markdown)
