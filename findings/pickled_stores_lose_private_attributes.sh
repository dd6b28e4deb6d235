#!/usr/bin/env bash
# llama-index-core 0.14.25: a component is pickled without its private attributes. `BaseComponent`
# puts them into the state, and its `__setstate__` calls `__init__` with the fields and sets no
# private attribute. A vector store that keeps its nodes in one, as pydantic's own documentation
# has it for state that is no field, comes back empty, and nothing says so. `copy.deepcopy`, which
# pydantic does itself, keeps them.
#
# Seen on 2026-11-30 with Python 3.11.7:
#   before: 1 node; after copy.deepcopy: 1; after pickle: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    llama-index-core==0.14.25

cat > "$folder/pickled.py" <<'PY'
import copy
import importlib.metadata
import pickle

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore

assert importlib.metadata.version("llama-index-core") == "0.14.25"


class Store(BasePydanticVectorStore):
    """A store that keeps its nodes in a private attribute."""

    stores_text: bool = True
    _nodes: dict = PrivateAttr(default_factory=dict)

    @property
    def client(self):
        return None

    def add(self, nodes, **options):
        self._nodes.update({node.node_id: node for node in nodes})
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id, **options):
        raise NotImplementedError

    def query(self, query, **options):
        raise NotImplementedError


store = Store()
store.add([TextNode(id_="a", text="a text")])
counts = [
    len(one._nodes) for one in (store, copy.deepcopy(store), pickle.loads(pickle.dumps(store)))
]
print("before: {} node; after copy.deepcopy: {}; after pickle: {}".format(*counts))
assert counts == [1, 1, 0]
PY
"$folder/venv/bin/python" "$folder/pickled.py"
echo "as described"
