#!/usr/bin/env bash
# A wheel as it is published, by a given Python, and all tests with that alone: test_wheel.sh [PYTHON]
# PATH must have the tools of the extra "dev".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${1:-python}" -m venv "$scratch/user"
pip() { "$scratch/user/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# From the sdist: build/ here may hold what is no longer in the sources.
python -m build --sdist --outdir "$scratch/sdist" . >/dev/null
pip wheel --no-deps --wheel-dir "$scratch/wheel" "$scratch"/sdist/*
if [[ $OSTYPE == linux* ]]; then
    auditwheel repair --wheel-dir "$scratch/repaired" "$scratch"/wheel/*
    rm "$scratch"/wheel/*
    mv "$scratch"/repaired/* "$scratch/wheel"
fi
python .ci/check_dist.py "$scratch"/sdist/* "$scratch"/wheel/*

wheel=("$scratch"/wheel/*)
pip install "${wheel[0]}[test]"
pip freeze
cp -r tests pyproject.toml "$scratch"
cd "$scratch"
user/bin/python -m pytest tests --pyargs skae
