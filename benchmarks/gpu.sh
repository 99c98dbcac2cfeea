#!/usr/bin/env bash
# Checks and measures the GPU's kernels on a machine with one.
#   gpu.sh pack BUILD       where BUILD was compiled: the programs and the libraries they need into .gpu/, for a machine
#                           with CUDA's driver and nothing else (glibc at least as new as here)
#   gpu.sh run [BUILD]      there, or on a machine that has built it all: every check with --require cuda, then the
#                           benchmark; one JSON file under $OUT (default benchmarks/results/): the evidence that
#                           tests/check/evidence.py looks for. Exit status 1 if a check failed.
# Whole networks are timed too: the shipped one, two small ones, and the ONNX files named in $NETS.
# cuFFT is searched for where Python packages keep it, too.
set -euo pipefail
cd "$(dirname "$0")/.."
checks="check_bulk check_conv check_cuda check_net"
nets="models/*.onnx tests/networks/dynamo/small.onnx tests/networks/dynamo/tiny-torch-group.onnx"

pack() {
    local build=$1
    rm -rf .gpu
    mkdir -p .gpu/lib
    for program in $checks; do cp "$build/tests/$program" .gpu/; done
    cp "$build/benchmarks/bench_gpu" "$build/gwstream" .gpu/
    # What belongs to every Linux machine stays here.
    ldd .gpu/check_* .gpu/bench_gpu .gpu/gwstream | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
        grep -Ev '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libresolv|libstdc\+\+|libgcc_s)\.so' | xargs -I{} cp -L {} .gpu/lib/
    strip .gpu/check_* .gpu/bench_gpu .gpu/gwstream
    du -sh .gpu
}

run() {
    local at=${1:-} out=${OUT:-benchmarks/results} failed=0 work name cufft program
    work=$(mktemp -d)
    if [ -n "$at" ]; then
        for program in $checks; do ln -s "$(realpath "$at")/tests/$program" "$work/"; done
        ln -s "$(realpath "$at")/benchmarks/bench_gpu" "$(realpath "$at")/gwstream" "$work/"
    else
        cp .gpu/check_* .gpu/bench_gpu .gpu/gwstream "$work/"
        export LD_LIBRARY_PATH=$PWD/.gpu/lib:${LD_LIBRARY_PATH:-}
    fi
    cufft=$(ldconfig -p | awk '/libcufft.so.1[12]/ {path = $NF} END {print path}')
    [ -n "$cufft" ] || cufft=$(find /usr/local /opt /usr/lib -name 'libcufft.so.1[12]' 2>/dev/null | awk 'NR == 1')
    [ -z "$cufft" ] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}:$(dirname "$cufft")
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true
    for program in $checks; do
        echo "== $program"
        "$work/$program" --require cuda 2>&1 | tee "$work/$program.log" || failed=1
    done
    echo "== bench_gpu"
    "$work/bench_gpu" | tee "$work/bench.json" || failed=1
    echo "== networks"
    for net in $nets ${NETS:-}; do
        for precision in fp32 tf32 fp16; do
            echo "{\"network\": \"$(basename "$net" .onnx)\", \"precision\": \"$precision\"}"
            "$work/gwstream" model bench "$net" --device cuda --precision "$precision" --json --batch 1,8,32,64,256 || failed=1
        done
    done > "$work/networks.jsonl"
    cat "$work/networks.jsonl"
    name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | awk 'NR == 1' | tr ' A-Z' '-a-z' || true)
    mkdir -p "$out"
    python3 tests/check/evidence.py --write "$out/${name:-gpu}-$(date -u +%Y-%m-%d).json" --logs "$work" --failed "$failed"
    rm -rf "$work"
    return "$failed"
}

case ${1:-} in
pack) pack "${2:?the build folder}" ;;
run) run "${2:-}" ;;
*) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
