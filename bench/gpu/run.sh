#!/usr/bin/env bash
# Parity and speed on a GPU, in one call: every model in every dtype, beside PyTorch eager and compiled,
# in turn with ours. Run from the root of the repository:
#
#   bench/gpu/run.sh PYTHON FOLDER
#
# PYTHON has torch and diffusers; reports go to FOLDER. PREHEAT_BENCH names a binary built before, with
# `cargo build --release --features cuda -p preheat-bench`. DEVICE, MODELS, DTYPES, BATCH, ROUNDS and
# IMAGES change what is measured (for a try without a GPU: DEVICE=cpu MODELS=sd15:64 DTYPES=f32).
set -euo pipefail
python=$1 folder=$2
device=${DEVICE:-cuda:0}
mkdir -p "$folder"
if [[ -z ${PREHEAT_BENCH:-} ]]; then
    cargo build --locked --release --features cuda -p preheat-bench
    PREHEAT_BENCH=target/release/preheat-bench
fi

checkpoints=$(mktemp -d)
trap 'rm -rf "$checkpoints"' EXIT
models=(${MODELS:-sd15:512 sdxl:1024 flux1:1024 dc:1024})
"$python" "$(dirname "$0")/make_models.py" "$checkpoints" "${models[@]%%:*}"

failed=0
for model in "${models[@]}"; do
    name=${model%%:*} size=${model##*:}
    # A dtype that a model overflows in (SDXL in f16) or a device lacks must not cost the others.
    for dtype in ${DTYPES:-f32 bf16 f16}; do
        echo "== $name ${size}x$size $dtype on $device"
        "$PREHEAT_BENCH" --json "$folder/$name-$size-$dtype.json" encode \
            --model "$checkpoints/$name" --size "$size" --batch "${BATCH:-1,8}" --dtype "$dtype" \
            --device "$device" --rounds "${ROUNDS:-5}" --images "${IMAGES:-32}" \
            --compare-python "$python" --compare-compiled | tee "$folder/$name-$size-$dtype.txt" ||
            { echo "failed: $name in $dtype" | tee -a "$folder/failed.txt"; failed=1; }
    done
done
exit $failed
