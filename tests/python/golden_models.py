"""Unpacks the golden models and values of tests/golden into folders that transformers and Collimate read.

    python tests/python/golden_models.py FOLDER

Weights are not stored. `NAME.safetensors.json` lists the tensors of `NAME.safetensors`, and `drawn` computes them from a
seed. crates/collimate-oracle/src/golden/weights.rs is the same definition in Rust; the SHA-256 of the finished file,
kept in the list, shows that both give the same bytes.
"""

import hashlib
import json
import pathlib
import shutil
import struct
import sys

import numpy

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
LIST = ".safetensors.json"
# Where the parts of a family go; {} is its name. Its runs go to train/RUN.
PARTS = {"model": "models/{}", "sharded": "models/{}.sharded", "adapter": "adapters/{}"}

_GAMMA = 0x9E3779B97F4A7C15
_U64 = 2**64 - 1
# Standard deviation of the sum of four numbers drawn from 0..65536.
_SPREAD = ((65536.0**2 - 1.0) / 3.0) ** 0.5


def _mix(z):
    """The finalizer of SplitMix64, on numpy's wrapping uint64 or on Python's integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _U64
    return z ^ (z >> 31)


def drawn(seed, name, shape, mean, std):
    """The tensor of this name in float32: close to a normal distribution, by integers and two roundings."""
    key = _mix((seed + _GAMMA) & _U64)
    for byte in name.encode():
        key = _mix((key ^ byte) + _GAMMA & _U64)
    count = int(numpy.prod(shape))
    counter = numpy.arange(1, count + 1, dtype=numpy.uint64)
    bits = _mix(numpy.uint64(key) + counter * numpy.uint64(_GAMMA))
    total = sum((bits >> numpy.uint64(16 * k)) & numpy.uint64(0xFFFF) for k in range(4))
    centered = (total.astype(numpy.int64) - 131070).astype(numpy.float32)
    values = centered * numpy.float32(std / _SPREAD) + numpy.float32(mean)
    return values.reshape(shape)


def _stored(values, dtype):
    """Little-endian bytes, rounded to nearest even for bfloat16."""
    if dtype == "float32":
        return values.astype("<f4").tobytes()
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def file_of(listed):
    """The bytes of the safetensors file that a list describes."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (shape, mean, std) in listed["tensors"].items():
        stored = _stored(drawn(listed["seed"], name, shape, mean, std), listed["dtype"])
        kind = {"float32": "F32", "bfloat16": "BF16"}[listed["dtype"]]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    text = json.dumps(header, separators=(",", ":"))
    text += " " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text.encode() + data


def unpack_folder(source, target):
    """Copies a folder, with the weights that its lists describe."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            unpack_folder(entry, target / entry.name)
        elif entry.name.endswith(LIST):
            listed = json.loads(entry.read_text())
            content = file_of(listed)
            if hashlib.sha256(content).hexdigest() != listed["sha256"]:
                raise ValueError(f"{entry} does not describe the weights that this script draws")
            (target / entry.name.removesuffix(".json")).write_bytes(content)
        else:
            shutil.copyfile(entry, target / entry.name)


def families():
    """Names of the families that have golden values."""
    return sorted(path.parent.name for path in GOLDEN.glob("*/golden.json"))


def unpacked_name(family):
    """The name of what belongs to a family; of those in a folder of several, as quantized/llama, it is llama.quantized."""
    return ".".join(reversed(family.split("/")))


def unpack_family(name, target):
    """Models, adapter and runs of one family."""
    source, name = GOLDEN / name, unpacked_name(name)
    tokenizer = GOLDEN / "tokenizers" / (json.loads((source / "golden.json").read_text())["tokenizer"] + ".json")
    for part, folder in PARTS.items():
        if (source / part).is_dir():
            folder = target / folder.format(name)
            unpack_folder(source / part, folder)
            if part != "adapter":
                shutil.copyfile(tokenizer, folder / "tokenizer.json")
    for adapter in sorted(source.glob("adapters/*")):
        unpack_folder(adapter, target / "adapters" / f"{name}.{adapter.name}")
    for run in sorted(source.glob("train/*")):
        unpack_folder(run, target / "train" / run.name)
        shutil.copyfile(GOLDEN / "data.jsonl", target / "train" / run.name / "data.jsonl")
    (target / "logps").mkdir(parents=True, exist_ok=True)
    if (source / "logps.json").is_file():
        shutil.copyfile(source / "logps.json", target / "logps" / f"{name}.json")


if __name__ == "__main__":
    for family in families():
        unpack_family(family, pathlib.Path(sys.argv[1]))
