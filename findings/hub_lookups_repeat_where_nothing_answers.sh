#!/usr/bin/env bash
# huggingface_hub 2.4.0, transformers 5.23.0: a mistyped model name on a machine that cannot reach the
# hub is an error only after 23 seconds for a configuration and 46 for a tokenizer: each file is
# requested six times, with waits of up to 8 seconds in between, and that nothing answers is not
# remembered for the next file. `HfApi.model_info` asks once.
#
# The script counts waits instead of spending them: it replaces `time.sleep`, and points the hub at a
# port of this machine that refuses connections.
#
# Seen on 2026-11-28 with Python 3.11.7:
#   AutoConfig.from_pretrained: OSError after 5 waits, 23 seconds
#   AutoTokenizer.from_pretrained: OSError after 10 waits, 46 seconds
#   HfApi.model_info: ConnectError after 0 waits, 0 seconds
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.23.0 huggingface_hub==2.4.0

cat > "$folder/lookups.py" <<'PY'
import logging
import sys
import time

waits = []
time.sleep = waits.append

import huggingface_hub
import transformers

assert (huggingface_hub.__version__, transformers.__version__) == ("2.4.0", "5.23.0")
logging.disable()


def waited(ask):
    waits.clear()
    try:
        ask("nobody/has-this-model")
    except Exception as error:
        kind = type(error).__name__
    print(f"{ask.__qualname__}: {kind} after {len(waits)} waits, {sum(waits):.0f} seconds")
    return len(waits)


config = waited(transformers.AutoConfig.from_pretrained)
tokenizer = waited(transformers.AutoTokenizer.from_pretrained)
api = waited(huggingface_hub.HfApi().model_info)
assert config >= 5
assert tokenizer > config
assert api == 0
PY
env -u HF_HUB_OFFLINE -u TRANSFORMERS_OFFLINE HF_ENDPOINT=http://127.0.0.1:9 HF_HOME="$folder/hub" \
    "$folder/venv/bin/python" "$folder/lookups.py" 2> /dev/null
echo "as described"
