#!/bin/sh
# Makes a virtual environment inside the project, exactly as its lock says, and leaves one alone that already is so.
#
#   scripts/bootstrap.sh                the project's own environment, .venv
#   scripts/bootstrap.sh generator      the pinned environment of the code generator, .venv-generator
#   scripts/bootstrap.sh audit          that of the tools that look for known vulnerabilities, .venv-audit
#
# A stamp in the environment names the interpreter, its version, the project's folder (environments cannot be moved) and
# the hash of the lock; when any of them differs, the environment is made anew. Where only a pyproject.toml has changed,
# the project and its client are installed into it again. Set PYTHON to choose the interpreter. Needs no compiler, and
# nothing of the caller's environments, PYTHONPATH or VIRTUAL_ENV, is used.
set -eu
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV || true
cd "$(dirname "$0")/.."

environment=.venv
lock=requirements.lock
project=pyproject.toml
case ${1:-} in
    generator | audit)
        environment=.venv-$1
        lock=requirements-$1.lock
        project=
        ;;
esac

# Prints what an interpreter is good for: "ready", "no-venv" or "old", and its version.
judge='
import sys
verdict = "ready" if sys.version_info >= (3, 11) else "old"
if verdict == "ready":
    try:
        import ensurepip, venv
    except ImportError:
        verdict = "no-venv"
print(verdict, "%d.%d" % sys.version_info[:2])
'
identify='
import hashlib, os, sys
print(os.path.realpath(sys.executable), sys.version.split()[0])
print(os.getcwd())
with open(sys.argv[1], "rb") as file:
    print(sys.argv[1], hashlib.sha256(file.read()).hexdigest())
'

identity() {
    # UTF-8 whatever the locale: the folder may have any name.
    PYTHONUTF8=1 "$1" -S -c "$identify" "$lock" 2>/dev/null || true
}

choose_python() {
    python='' incomplete='' too_old=''
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14; do
        verdict=$("$candidate" -c "$judge" 2>/dev/null) || continue
        case $verdict in
            ready*) python=$candidate; return ;;
            no-venv*) incomplete=${incomplete:-${verdict#no-venv }} ;;
            old*) too_old=${too_old:-${verdict#old }} ;;
        esac
    done
    if [ -n "$incomplete" ]; then
        echo "Python $incomplete is here without its venv module: install the package python$incomplete-venv and try again." >&2
    else
        echo "Python 3.11 or newer is needed${too_old:+ and only $too_old was found}: install the packages python3.11 and python3.11-venv (or newer) and try again." >&2
    fi
    exit 1
}

stamp=$environment/stamp
wanted=''
if [ -z "${PYTHON:-}" ] && [ -x $environment/bin/python ]; then
    # An environment that is right is kept, also when another interpreter now comes first.
    wanted=$(identity $environment/bin/python)
fi
if [ -z "$wanted" ] || ! printf '%s\n' "$wanted" | cmp -s - $stamp; then
    choose_python
    wanted=$(identity "$python")
fi
pip="$environment/bin/python -m pip --disable-pip-version-check --no-input -qq"

if ! printf '%s\n' "$wanted" | cmp -s - $stamp; then
    echo "Setting up $environment with $("$python" --version): about a minute, plus the downloads." >&2
    rm -rf $environment
    "$python" -m venv $environment
    $pip install --require-hashes --only-binary :all: -r $lock
    printf '%s\n' "$wanted" > $stamp
fi
if [ -n "$project" ] && ! cat $project payment_client/$project | cmp -s - $environment/installed-$project; then
    $pip install --no-deps --no-build-isolation -e . -e ./payment_client
    cat $project payment_client/$project > $environment/installed-$project
fi
