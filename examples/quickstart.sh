#!/usr/bin/env bash
# Sets dpf up in .venv (the tested versions) and runs the whole chain on a simulated screen, into quickstart/.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m venv .venv
.venv/bin/python -m pip install --quiet --upgrade "pip>=25.1"
.venv/bin/python -m pip install --quiet --group tested --editable .
dpf=.venv/bin/dpf

rm -rf quickstart && mkdir quickstart
demo=quickstart/demo
started=$SECONDS
$dpf init $demo --demo
$dpf check $demo --format table >quickstart/check.txt
# 3 folds: every well is predicted by a member that never saw it. Small batches, because the demo is small.
$dpf train $demo --folds 3 --epochs 12 --batch-size 8
$dpf evaluate $demo --format table --top 12
$dpf predict $demo --top 5 --format table
$dpf latent $demo --top 5 --format table
$dpf rank $demo --top 15 --format table
$dpf explain $demo --top 15 --format table
$dpf info $demo
$dpf export $demo --output quickstart/tables >quickstart/exported.txt
$dpf export $demo --layout classic --output quickstart/classic >>quickstart/exported.txt

echo
echo "Done in $((SECONDS - started)) s of computing. Look at:"
printf '  %s\n' quickstart/check.txt $demo/check/figures/*.png $demo/models/default/card.md \
  $demo/models/default/loss_curve.png $demo/results/default/figures/*.png quickstart/tables/ quickstart/classic/
