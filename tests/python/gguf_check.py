#!/usr/bin/env python3
"""Reads GGUF files with llama.cpp's own Python package and compares them with the model that they were made of.

    gguf_check.py FILE.gguf MODEL_DIR [FILE.gguf MODEL_DIR ...]

Checked are keys against config.json, the vocabulary against tokenizer.json, every tensor's values against the
safetensors, and the bytes of quantised tensors against the package's own quantisation. One line a file; the exit code
is 1 where anything differs. Needs: gguf, numpy, safetensors.
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map, quants
from safetensors import safe_open

INTERLEAVED = {"llama", "smollm3"}


def weights_of(folder):
    """All tensors of a folder's safetensors, as float32."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():
                tensors[name] = file.get_tensor(name).astype(np.float32)
    return tensors


def interleaved(weight, heads):
    """Halves of a head become neighbours, as llama.cpp rotates Llama's."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def expected_tensors(config, weights, architecture):
    """Every tensor by llama.cpp's name for it, from the package's table of names."""
    numbers = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
    names = get_tensor_name_map(MODEL_ARCH(numbers[architecture]), config["num_hidden_layers"])
    expected, experts = {}, {}
    for name, value in weights.items():
        stem, kind = name.rsplit(".", 1)
        if ".block_sparse_moe.experts." in stem:
            layer, _, rest = stem.removeprefix("model.layers.").partition(".block_sparse_moe.experts.")
            number, _, part = rest.partition(".")
            part = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}[part]
            experts.setdefault(f"blk.{layer}.{part}.weight", {})[int(number)] = value
            continue
        found = names.get_name(stem)
        if found is None:
            raise SystemExit(f"the package has no name for {stem}")
        if architecture in INTERLEAVED and found.endswith("attn_q"):
            value = interleaved(value, config["num_attention_heads"])
        if architecture in INTERLEAVED and found.endswith("attn_k"):
            value = interleaved(value, config.get("num_key_value_heads") or config["num_attention_heads"])
        if architecture == "gemma2" and stem.endswith("norm"):
            value = value + np.float32(1)
        expected[f"{found}.{kind}"] = value
    for name, parts in experts.items():
        expected[name] = np.stack([parts[number] for number in sorted(parts)])
    return expected


def check(path, folder):
    """What differs between a file and the model's folder, in lines."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    reader = GGUFReader(path)
    problems = []

    def key(name):
        field = reader.get_field(name)
        return None if field is None else field.contents()

    def same(what, found, wanted):
        if found != wanted:
            problems.append(f"{what}: {found!r}, not {wanted!r}")

    architecture = key("general.architecture")
    of_model = {
        "block_count": "num_hidden_layers",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "context_length": "max_position_embeddings",
    }
    for name, field in of_model.items():
        same(name, key(f"{architecture}.{name}"), config[field])
    eps = key(f"{architecture}.attention.layer_norm_rms_epsilon")
    same("epsilon", np.float32(eps), np.float32(config["rms_norm_eps"]))

    tokens = key("tokenizer.ggml.tokens")
    same("number of tokens", len(tokens), config["vocab_size"])
    for token, number in tokenizer["model"]["vocab"].items():
        same(f"token {number}", tokens[number], token)
    for added in tokenizer["added_tokens"]:
        same(f"added token {added['id']}", tokens[added["id"]], added["content"])
    if key("tokenizer.ggml.model") == "gpt2":
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
        same("merges", key("tokenizer.ggml.merges"), merges)
    template = folder / "chat_template.jinja"
    if template.is_file():
        same("chat template", key("tokenizer.chat_template"), template.read_text())

    expected = expected_tensors(config, weights_of(folder), architecture)
    found = {tensor.name: tensor for tensor in reader.tensors}
    extra = {name for name in found if name.startswith(("rope_freqs", "rope_factors"))}
    if architecture == "olmo2" and "output.weight" not in expected:
        expected["output.weight"] = expected["token_embd.weight"]
    same("names of tensors", sorted(set(found) - extra), sorted(expected))
    types = {}
    for name, wanted in expected.items():
        tensor = found.get(name)
        if tensor is None:
            continue
        kind = Type(tensor.tensor_type)
        types[kind.name] = types.get(kind.name, 0) + 1
        same(f"shape of {name}", [int(size) for size in reversed(tensor.shape)], list(wanted.shape))
        encoded = wanted if kind == Type.F32 else wanted.astype(np.float16) if kind == Type.F16 else None
        if encoded is None:
            encoded = quants.quantize(wanted, kind)
        if np.asarray(tensor.data).tobytes() != np.ascontiguousarray(encoded).tobytes():
            problems.append(f"bytes of {name} ({kind.name}) are not those of the package")
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(types.items()))
    print(f"{'FAILED' if problems else 'ok'}  {path}: {architecture}, {len(found)} tensors ({counts})")
    for problem in problems[:10]:
        print(f"    {problem[:300]}")
    return not problems


def main(arguments):
    if not arguments or len(arguments) % 2:
        raise SystemExit(__doc__)
    pairs = zip(arguments[::2], arguments[1::2])
    results = [check(Path(path), Path(folder)) for path, folder in pairs]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
