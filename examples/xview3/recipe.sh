#!/bin/sh
# One fold of xView3-SAR: learn, predict, score. docs/xview3.md says what it takes over from the winners and what not.
#
#   sh recipe.sh DATA_DIR LABELS.csv SHORELINE_DIR OUT_DIR [options of xtgeo train]
#
# DATA_DIR holds a folder for every scene, SHORELINE_DIR plain shorelines (xtgeo evaluate shore). FOLD, FOLDS, STEPS, EVERY: see below.
# Fold FOLD is scored, the next one chooses step and threshold, the rest is learnt from. Run again, it goes on where it was.
set -eu
data=$1 labels=$2 shore=$3 out=$4
shift 4
fold=${FOLD:-0} folds=${FOLDS:-4} steps=${STEPS:-20000} every=${EVERY:-1000}

mkdir -p "$out"
xtgeo xview3 split "$data" --labels "$labels" --folds "$folds" > "$out/folds.json"
ids() {
    python -c "import json, sys; print(*json.load(open(sys.argv[1]))[int(sys.argv[2]) % int(sys.argv[3])])" "$out/folds.json" "$1" "$folds"
}
scored=$(ids "$fold")
for id in $(ids $((fold + 1))); do set -- "$@" --val "$data/$id"; done
for i in $(seq 2 $((folds - 1))); do
    for id in $(ids $((fold + i))); do set -- "$@" --scenes "$data/$id"; done
done

if [ -d "$out/model.run" ]; then set -- "$@" --resume; fi
[ -e "$out/model.safetensors" ] || xtgeo train --task detect --labels "$labels" --out "$out/model.safetensors" \
    --start points-sar --side 1024 --batch 8 --objects 0.8 --shore 0.1 --augment sar --ignore confidence=LOW \
    --lr 1e-3 --steps "$steps" --every "$every" "$@"
xtgeo xview3 predict "$data" "$(echo $scored | tr ' ' ,)" "$out/predictions.csv" --model "$out/model.safetensors" --overwrite
xtgeo evaluate xview3 --predictions "$out/predictions.csv" --labels "$labels" --shore "$shore"
