#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Trains both starter models from nothing and puts them into the package: ./run train-starter --work DIR [asr|llm]
# Hours on one processor core; a stopped training goes on when the command is given again.
set -eu
work=
parts=
while [ $# -gt 0 ]; do
    case $1 in
    --work) work=${2:?--work needs a folder}; shift 2 ;;
    asr | llm) parts="$parts $1"; shift ;;
    *) work=; break ;;
    esac
done
[ -n "$work" ] || { echo "usage: ./run train-starter --work DIR [asr] [llm]" >&2; exit 2; }
mkdir -p "$work"
work=$(cd "$work" && pwd)
cd "$(dirname "$0")"

# The box's own environment holds no training framework, so the recipe gets one of its own.
if ! cmp -s recipe/requirements.txt "$work/venv/requirements.txt"; then
    echo "installing what the recipe needs into $work/venv" >&2
    "${PYTHON:-python3}" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet -r recipe/requirements.txt
    cp recipe/requirements.txt "$work/venv/requirements.txt"
fi
# Freed memory is kept for the next step: giving it back to the system at every step costs half of the time.
export MALLOC_MMAP_THRESHOLD_=4294967295 MALLOC_TRIM_THRESHOLD_=34359738368
for part in ${parts:-llm asr}; do
    nice "$work/venv/bin/python" -m "recipe.$part" --work "$work/$part"
done
"$work/venv/bin/python" -m recipe.checksums
