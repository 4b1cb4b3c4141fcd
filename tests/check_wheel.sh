#!/bin/sh
# Installs dist/*.whl into a clean environment outside the checkout, then lists tasks and makes a small run there.
set -eu
python=${1:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" "$root"/dist/salad_gap-*.whl
cd "$work"
"$work/env/bin/python" - <<'PY'
import zipfile, glob, importlib.metadata as metadata
top = sorted({str(path).split("/")[0] for path in metadata.files("salad-gap")} - {".."})
packages = [name for name in top if not name.endswith(".dist-info")]
assert packages == ["salad_eval", "salad_train"], packages
PY
"$work/env/bin/salad" tasks list
"$work/env/bin/salad" run --preset nano --limit 28 --out "$work/run"
test -f "$work/run/report.html"
echo "wheel: fine"
