#!/usr/bin/env bash
# datasets 5.2.0: Dataset.to_csv writes a column of lists as NumPy shows arrays, without commas:
# ['a' 'b']. To Python that is a list of one string, as neighbouring strings are joined, so the usual
# way to read it back, ast.literal_eval, returns ['ab'] without an error: options of MMLU become one
# option, answers of NQ-open one answer. json.loads refuses it. pandas.DataFrame.to_csv of the same
# lists writes commas. Arrays of more than 1,000 items are abbreviated with "...", and then lost.
#
# Seen on 2026-11-28 with pandas 3.1.1, pyarrow 26.0.1 and numpy 2.4.6:
#   cell of datasets: ['zero' "it's four" 'two' 'six']
#   ast.literal_eval: ["zeroit's fourtwosix"]
#   cell of pandas:   ['zero', "it's four", 'two', 'six']
#   2,000 items:      abbreviated, 6 left
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6

cat > "$folder/lists.py" <<'PY'
import ast
import csv
import json
import sys
from pathlib import Path

import datasets
import pandas

assert datasets.__version__ == "5.2.0"
folder = Path(sys.argv[1])
choices = ["zero", "it's four", "two", "six"]


def cell(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))[0]["choices"]


datasets.Dataset.from_dict({"choices": [choices]}).to_csv(folder / "datasets.csv")
found = cell(folder / "datasets.csv")
print(f"cell of datasets: {found}")
read = ast.literal_eval(found)
print(f"ast.literal_eval: {read}")
assert read == ["zeroit's fourtwosix"]
try:
    json.loads(found)
except json.JSONDecodeError:
    pass
else:
    raise AssertionError("json.loads reads it")

pandas.DataFrame({"choices": [choices]}).to_csv(folder / "pandas.csv")
print(f"cell of pandas:   {cell(folder / 'pandas.csv')}")
assert ast.literal_eval(cell(folder / "pandas.csv")) == choices

many = [f"a{number}" for number in range(2000)]
datasets.Dataset.from_dict({"choices": [many]}).to_csv(folder / "many.csv")
left = cell(folder / "many.csv").count("'a")
print(f"2,000 items:      abbreviated, {left} left")
assert "..." in cell(folder / "many.csv") and left == 6
PY
HF_HOME="$folder/hub" "$folder/venv/bin/python" "$folder/lists.py" "$folder" 2>/dev/null
echo "as described"
