#!/usr/bin/env bash
# prepare.sh FOLDER PYTHON: brings Debian's Python 3.11 for 64-bit ARM and the packages that tests of
# search need into FOLDER. PYTHON is one with pip, on this machine. Nothing outside FOLDER changes.
set -euo pipefail
folder=$1 python=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

missing=""
for command in apt-get dpkg-deb qemu-aarch64 aarch64-linux-gnu-g++; do
    command -v "$command" >/dev/null || missing="$missing $command"
done
if [ -n "$missing" ]; then
    echo "test-arm: not found:$missing" >&2
    echo "  Debian 12:  apt install qemu-user g++-aarch64-linux-gnu" >&2
    exit 1
fi

mkdir -p "$folder"/{apt/lists,apt/cache,debs,root}
folder=$(cd "$folder" && pwd)
apt() {
    apt-get -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State::Lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" \
        -o Dir::State::status=/dev/null -o APT::Sandbox::User=root -qq "$@"
}
apt update
(cd "$folder/debs" && apt download python3.11-minimal libpython3.11-minimal \
    libpython3.11-stdlib libpython3.11-dev libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 \
    libssl3 libbz2-1.0 liblzma5 libsqlite3-0 libcrypt1 libuuid1)
for package in "$folder"/debs/*.deb; do dpkg-deb -x "$package" "$folder/root"; done

"$python" -m pip --disable-pip-version-check install --quiet --target "$folder/site" --upgrade \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --abi abi3 \
    --abi none --constraint "$here/../../constraints.txt" \
    numpy safetensors pytest pytest-xdist hypothesis ml-dtypes
