#!/bin/sh
# Generates Python from the proto files with the pinned generator of .venv-generator.
#
#   scripts/generate.sh FOLDER            replaces what FOLDER holds
#   scripts/generate.sh --check FOLDER    changes nothing and fails where FOLDER holds anything else
#
# FOLDER is compared with a fresh folder rather than through git, so that new and forgotten files count as drift too.
set -eu
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV || true
cd "$(dirname "$0")/.."
check=''
if [ "$1" = --check ]; then
    check=yes
    shift
fi
scripts/bootstrap.sh generator
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
PATH="$PWD/.venv-generator/bin:$PATH" .venv-generator/bin/python -m grpc_tools.protoc -I proto \
    --python_out="$fresh" --grpc_python_out="$fresh" \
    --mypy_out=quiet:"$fresh" --mypy_grpc_out=quiet,only_async:"$fresh" \
    proto/mpesa_payments/v1/*.proto
if [ -n "$check" ]; then
    if ! diff -r -q -x __pycache__ "$fresh" "$1"; then
        echo "$1 is not what the proto files say: run make generate." >&2
        exit 1
    fi
    exit 0
fi
rm -rf "$1"
mkdir -p "$1"
cp -R "$fresh"/. "$1"
chmod 755 "$1"
