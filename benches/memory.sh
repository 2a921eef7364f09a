#!/usr/bin/env bash
# Peak memory and time of `plan` and `train` on generated data of several sizes.
#
#   COLLIMATE=target/release/collimate BASE=models/base benches/memory.sh [MEGABYTES …]
#
# Each size is planned, trained for one step, and trained again, with a memory_budget of 300 MiB and a token cache of its own. Data
# and stores go to a folder below TMPDIR (or /var/tmp) and are removed before the next size. Needs GNU time.
set -euo pipefail

program=${COLLIMATE:?the program to measure}
base=${BASE:?a model folder}
sizes=("${@:-10}")
[ $# -gt 0 ] || sizes=(10 300 2200)
folder=$(mktemp -d -p "${TMPDIR:-/var/tmp}" collimate-memory.XXXXXX)
trap 'rm -rf "$folder"' EXIT

generate() { # MEGABYTES FILE
    awk -v bytes=$(($1 * 1000000)) 'BEGIN {
        for (i = 0; i < 12; i++) pad = pad "The quick brown fox jumps over the lazy dog and then some more text. "
        while (written < bytes) {
            row = "{\"prompt\": \"" n " " pad "\", \"responses\": [{\"content\": \"" pad n "\", \"reward\": 1.0}, {\"content\": \"no " n "\", \"reward\": 0.0}]}"
            print row
            written += length(row) + 1
            n++
        }
    }' > "$2"
}

measure() { # NAME ARGUMENTS…
    local name=$1
    shift
    local status=0
    /usr/bin/time -f '%M %e' -o "$folder/time" "$program" "$@" > "$folder/out" 2>&1 || status=$?
    if [ $status -ne 0 ]; then
        tail -n 3 "$folder/out" >&2
    fi
    awk -v name="$name" -v status=$status 'END { printf "| %s | %d | %.1f | %d |\n", name, $1 / 1024, $2, status }' "$folder/time"
}

settings=(--set memory_budget=300MiB --set max_steps=1 --set sample_prompts=0 --set max_length=128 --set max_prompt_length=64
    --set reference_cache=false)
# Versions that kept everything in memory have no such key.
if "$program" schema 2> /dev/null | grep -q '"token_cache"'; then
    settings+=(--set "token_cache=$folder/tokens")
fi

echo '| data and command | peak, MiB | seconds | exit code |'
echo '|---|---|---|---|'
for megabytes in "${sizes[@]}"; do
    data=$folder/data.jsonl
    generate "$megabytes" "$data"
    # A file that was just written is hashed again by the next run.
    sleep 3
    measure "$megabytes MB, plan" plan --model "$base" --data "$data" "${settings[@]}"
    measure "$megabytes MB, train" train --model "$base" --data "$data" --output "$folder/first" --quiet "${settings[@]}"
    measure "$megabytes MB, train again" train --model "$base" --data "$data" --output "$folder/second" --quiet "${settings[@]}"
    measure "$megabytes MB, max_samples 50" train --model "$base" --data "$data" --output "$folder/few" --quiet "${settings[@]}" --set max_samples=50
    rm -rf "$data" "$folder/first" "$folder/second" "$folder/few" "$folder/tokens"
done
