"""The notebooks: they run from the first cell to the last, and are stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Runs in a process of its own, as Jupyter's packages warn of their own future.
RUN = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
print(sum(output.output_type == "display_data" for cell in notebook.cells
          for output in cell.get("outputs", ())))
"""


def test_every_system_has_a_notebook():
    assert {path.stem for path in NOTEBOOKS} == {"aar", "invar_rag", "mechanisms"}


@each_notebook
def test_notebooks_are_stored_without_outputs(path: Path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each_notebook
def test_notebooks_use_public_names(path: Path):
    text = path.read_text()
    assert "import _" not in text
    assert "._" not in text.replace("._blank", "")


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_and_draws(path: Path, tmp_path: Path):
    for package in ("nbclient", "ipykernel", "matplotlib", "transformers"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(path)]
    environment = os.environ | {"IPYTHONDIR": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 2
