#!/bin/sh
# Makes FOLDER/libcuda.so.1; see cuda.c. Functions of the driver that are not there do nothing and succeed: their names are
# those that the crate cudarc calls.
set -eu
here=$(dirname "$0")
folder=${1:?"usage: build.sh FOLDER"}
bindings=$(cargo metadata --format-version 1 --manifest-path "$here/../../Cargo.toml" --all-features |
    tr ',' '\n' | sed -n 's|.*"manifest_path":"\(.*/cudarc-0\.19[^/]*\)/Cargo.toml".*|\1|p' | sort -u | head -n 1)
mkdir -p "$folder"
grep -ohE 'pub unsafe fn cu[A-Z][A-Za-z0-9_]*' "$bindings/src/driver/sys/mod.rs" | sed 's/.* //' | sort -u >"$folder/names"
grep -oE '^int cu[A-Z][A-Za-z0-9_]*' "$here/cuda.c" | sed 's/int //' | sort -u >"$folder/written"
comm -23 "$folder/names" "$folder/written" | sed 's/.*/int &(void) { return 0; }/' >"$folder/rest.c"
cc -w -O2 -shared -fPIC -o "$folder/libcuda.so.1" "$here/cuda.c" "$folder/rest.c" -lpthread
ln -sf libcuda.so.1 "$folder/libcuda.so"
rm "$folder/names" "$folder/written" "$folder/rest.c"
