#!/usr/bin/env python3
"""Reads GGUF files with llama.cpp's own Python package and compares them with the model that they were made from.

    gguf_check.py TYPE FILE.gguf MODEL_DIR [TYPE FILE.gguf MODEL_DIR ...]

Checked are all keys against config.json, generation_config.json and the tokenizer's files, every tensor's type against the
TYPE that was asked for (f32, f16, bf16, q8_0, q4_0), its values against the safetensors, those of rotation against the
configuration, and the bytes of quantized tensors against the package's own quantization. An unknown key
counts as a difference. Prints one line per file; the exit code is 1 if anything differs. Needs: gguf, numpy, safetensors.
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map, quants
from safetensors import safe_open

INTERLEAVED = {"llama", "mistral3", "smollm3", "granite"}
EXPERT_PARTS = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}
EXPERT_PARTS |= {f"{part}_proj": f"ffn_{part}_exps" for part in ("gate", "up", "down")}
# llama.cpp's numbers: of a file's type, and of what a token is.
FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
# Ends that llama.cpp finds by their names.
KNOWN_ENDS = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
}


# llama.cpp's names of parameters that belong to no module.
VECTORS = {"sinks": "attn_sinks.weight", "e_score_correction_bias": "exp_probs_b.bias"}


def unstacked(name, value):
    """gpt-oss's experts: weights are [E, in, out], and the outputs of gate and up take turns."""
    name, kind = (name.removesuffix("_bias"), "bias") if name.endswith("_bias") else (name, "weight")
    value = value.swapaxes(1, 2) if kind == "weight" else value
    if name == "down_proj":
        return {f"ffn_down_exps.{kind}": value}
    return {f"ffn_gate_exps.{kind}": value[:, ::2], f"ffn_up_exps.{kind}": value[:, 1::2]}


def weights_of(folder):
    """All tensors of a folder's safetensors, as float32."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():
                tensors[name] = file.get_tensor(name).astype(np.float32)
    return tensors


def interleaved(weight, heads):
    """Halves of a head become neighbors, as llama.cpp rotates Llama's."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def expected_tensors(config, weights, architecture):
    """Every tensor by llama.cpp's name for it, from the package's table of names."""
    numbers = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
    names = get_tensor_name_map(MODEL_ARCH(numbers[architecture]), config["num_hidden_layers"])
    expected, experts = {}, {}
    for name, value in weights.items():
        stem, kind = name.rsplit(".", 1)
        layer, _, module = stem.removeprefix("model.layers.").partition(".")
        if kind in VECTORS:
            expected[f"blk.{layer}.{VECTORS[kind]}"] = value
            continue
        if module == "mlp.experts":
            expected |= {f"blk.{layer}.{part}": own for part, own in unstacked(kind, value).items()}
            continue
        if ".experts." in stem:
            number, _, part = module.partition(".experts.")[2].partition(".")
            experts.setdefault(f"blk.{layer}.{EXPERT_PARTS[part]}.weight", {})[int(number)] = value
            continue
        found = names.get_name(stem)
        if found is None:
            raise SystemExit(f"the package has no name for {stem}")
        if architecture in INTERLEAVED and found.endswith("attn_q"):
            value = interleaved(value, config["num_attention_heads"])
        if architecture in INTERLEAVED and found.endswith("attn_k"):
            value = interleaved(value, config.get("num_key_value_heads") or config["num_attention_heads"])
        if architecture in ("gemma2", "gemma3") and stem.endswith("norm"):
            value = value + np.float32(1)
        expected[f"{found}.{kind}"] = value
    for name, parts in experts.items():
        expected[name] = np.stack([parts[number] for number in sorted(parts)])
    return expected


def rotation(config, architecture):
    """Keys and tensors of rotation, by the formulas of transformers (modeling_rope_utils.py)."""
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    # llama.cpp knows by itself how layers with a window are rotated.
    scaling = scaling.get("full_attention", scaling)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    partial = scaling.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    size = int(head * partial)
    theta = config.get("rope_theta", scaling.get("rope_theta", 10000.0))
    keys, tensors = {"rope.dimension_count": size, "rope.freq_base": np.float32(theta)}, {}
    frequencies = 1 / theta ** (np.arange(0, size, 2) / size)
    original = scaling.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
    if kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": kind, "rope.scaling.factor": np.float32(scaling["factor"])}
    if kind == "yarn":
        keys["rope.scaling.original_context_length"] = original or config["max_position_embeddings"]
    if architecture == "mistral3":
        keys["attention.temperature_scale"] = np.float32(scaling["llama_4_scaling_beta"])
        keys["rope.scaling.yarn_log_multiplier"] = np.float32(scaling["mscale_all_dim"])
        keys |= {f"rope.scaling.yarn_{name}": np.float32(scaling[name]) for name in ("beta_fast", "beta_slow")}
    if kind == "llama3":
        low, high, factor = (scaling[name] for name in ("low_freq_factor", "high_freq_factor", "factor"))
        waves = 2 * np.pi / frequencies
        smooth = np.clip((original / waves - low) / (high - low), 0, 1)
        tensors["rope_freqs.weight"] = 1 / ((1 - smooth) / factor + smooth)
    if kind == "longrope":
        factor = scaling.get("attention_factor")
        if factor is None:
            ratio = scaling.get("factor") or config["max_position_embeddings"] / original
            factor = 1.0 if ratio <= 1 else np.sqrt(1 + np.log(ratio) / np.log(original))
        keys |= {
            "rope.scaling.type": "longrope",
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": np.float32(factor),
        }
        for length in ("long", "short"):
            tensors[f"rope_factors_{length}.weight"] = np.array(scaling[f"{length}_factor"])
    return {f"{architecture}.{name}": value for name, value in keys.items()}, tensors


def model_keys(config, architecture):
    """Keys of the architecture beside those of rotation."""
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    keys = {
        "vocab_size": config["vocab_size"],
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": np.float32(config["rms_norm_eps"]),
    }
    windowed = config.get("use_sliding_window", config["model_type"] != "qwen2")
    window = config.get("sliding_window") if windowed else None
    if window or architecture == "phi3":
        keys["attention.sliding_window"] = window or 0
    if architecture == "gemma2":
        keys["attn_logit_softcapping"] = np.float32(config["attn_logit_softcapping"])
        keys["final_logit_softcapping"] = np.float32(config["final_logit_softcapping"])
    if architecture == "granite":
        for key, field in {
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        }.items():
            keys[key] = np.float32(config.get(field, 1.0))
    count = config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts")
    if count:
        keys |= {"expert_count": count, "expert_used_count": config["num_experts_per_tok"]}
    if architecture == "gpt-oss":
        keys["expert_feed_forward_length"] = config["intermediate_size"]
    if architecture == "glm4moe":
        keys |= {
            "leading_dense_block_count": config["first_k_dense_replace"],
            "expert_shared_count": config["n_shared_experts"],
            "expert_gating_func": 2,
            "expert_weights_scale": np.float32(config["routed_scaling_factor"]),
            "expert_weights_norm": config["norm_topk_prob"],
        }
        if config["topk_group"] < config["n_group"]:
            keys |= {"expert_group_count": config["n_group"], "expert_group_used_count": config["topk_group"]}
    if "moe_intermediate_size" in config:
        keys["expert_feed_forward_length"] = config["moe_intermediate_size"]
    return {f"{architecture}.{name}": value for name, value in keys.items()}


def vocabulary(config, tokenizer):
    """Texts, kinds and scores of tokens."""
    model, size = tokenizer["model"], config["vocab_size"]
    fallback, unknown = model.get("byte_fallback"), model.get("unk_token")
    texts, kinds = [f"[PAD{number}]" for number in range(size)], [UNUSED] * size

    def kind_of(text, otherwise):
        if fallback and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return BYTE
        return UNKNOWN if fallback and text == unknown else otherwise

    for text, number in model["vocab"].items():
        texts[number], kinds[number] = text, kind_of(text, NORMAL)
    for added in tokenizer["added_tokens"]:
        number, text = added["id"], added["content"]
        kinds[number] = kind_of(text, CONTROL if added["special"] else USER_DEFINED)
        texts[number] = text.replace("▁", " ") if fallback and kinds[number] == USER_DEFINED else text
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    ranks = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    outside = {BYTE: 0.0, UNKNOWN: 0.0, CONTROL: -1000.0, USER_DEFINED: -1000.0, UNUSED: -10000.0}
    scores = [outside.get(kind, -float(ranks.get(text, len(merges)))) for text, kind in zip(texts, kinds)]
    return texts, kinds, scores, [" ".join(merge) for merge in merges]


def adds_prefix(tokenizer):
    """Whether a text gets a space before it."""
    normalizer, split = tokenizer["normalizer"] or {}, tokenizer["pre_tokenizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    metaspace = split.get("type") == "Metaspace" and split.get("prepend_scheme", "always") != "never"
    return metaspace or any(step.get("type") == "Prepend" for step in steps)


def special_keys(folder, config, tokenizer, texts):
    """Keys of special tokens, and the chat template."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    generation = folder / "generation_config.json"
    ends = json.loads(generation.read_text()).get("eos_token_id") if generation.is_file() else None
    ends = config.get("eos_token_id") if ends is None else ends
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    named = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}

    def number(name):
        token = settings.get(name)
        text = token["content"] if isinstance(token, dict) else token
        # As the converter of llama.cpp has it: a token that the tokenizer does not name may have a number.
        numbered = config.get(f"{name}_id")
        return named.get(text, tokenizer["model"]["vocab"].get(text, numbered if isinstance(numbered, int) else None))

    keys = {"bos_token_id": number("bos_token"), "eos_token_id": number("eos_token"), "padding_token_id": number("pad_token")}
    unknown = tokenizer["model"].get("unk_token")
    keys["unknown_token_id"] = tokenizer["model"]["vocab"].get(unknown, named.get(unknown))
    others = [end for end in ends if end != keys["eos_token_id"] and texts[end] not in KNOWN_ENDS]
    keys["eot_token_id"] = others[0] if others else None
    processor = json.dumps(tokenizer.get("post_processor"))
    keys["add_bos_token"] = settings.get("bos_token") is not None and json.dumps(settings["bos_token"]) in processor
    keys["add_eos_token"] = json.dumps(settings["eos_token"]) in processor
    template = folder / "chat_template.jinja"
    template = template.read_text() if template.is_file() else settings.get("chat_template")
    found = {f"tokenizer.ggml.{name}": value for name, value in keys.items() if value is not None}
    return found | ({"tokenizer.chat_template": template} if template is not None else {})


def expected_keys(kind, folder, config, tokenizer, architecture):
    """Every key but the model's name and that of the split, and its value."""
    texts, kinds, scores, merges = vocabulary(config, tokenizer)
    bytes_only = not tokenizer["model"].get("byte_fallback")
    keys = {
        "general.architecture": architecture,
        "general.type": "model",
        "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": 2,
        "tokenizer.ggml.model": "gpt2" if bytes_only else "llama",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": kinds,
    }
    if bytes_only:
        keys["tokenizer.ggml.merges"] = merges
    else:
        keys |= {"tokenizer.ggml.scores": scores, "tokenizer.ggml.add_space_prefix": adds_prefix(tokenizer)}
    keys |= model_keys(config, architecture) | rotation(config, architecture)[0]
    return keys | special_keys(folder, config, tokenizer, texts)


def stored_as(kind, name, shape):
    """The type that a tensor has in a file of this type."""
    if len(shape) < 2 or name.endswith(("_norm.weight", "ffn_gate_inp.weight", ".bias")):
        return Type.F32
    if kind in ("q8_0", "q4_0") and shape[-1] % 32:
        return Type.F16
    if kind == "q4_0" and name in ("token_embd.weight", "output.weight"):
        return Type.Q8_0
    return Type[kind.upper()]


def check(asked, path, folder):
    """Prints what differs between a file and the model's folder."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    reader = GGUFReader(path)
    problems = []

    def same(what, found, wanted):
        if found != wanted:
            problems.append(f"{what}: {str(found)[:120]}, not {str(wanted)[:120]}")

    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    architecture = keys["general.architecture"]
    wanted = expected_keys(asked, folder, config, tokenizer, architecture)
    same("keys too many or missing", sorted(set(keys) ^ {*wanted, "general.name", "tokenizer.ggml.pre"}), [])
    for name, value in wanted.items():
        found = keys.get(name)
        # The one number that is computed may end in another last bit.
        computed = name.endswith("attn_factor") and found is not None and np.isclose(found, value, rtol=1e-6, atol=0)
        same(name, value if computed else found, value)

    expected = expected_tensors(config, weights_of(folder), architecture)
    of_rotation = rotation(config, architecture)[1]
    found = {tensor.name: tensor for tensor in reader.tensors}
    if architecture == "olmo2" and "output.weight" not in expected:
        expected["output.weight"] = expected["token_embd.weight"]
    same("tensors too many or missing", sorted(set(found) ^ {*expected, *of_rotation}), [])
    for name, values in of_rotation.items():
        if name in found and not np.allclose(found[name].data, values, rtol=1e-5, atol=0):
            problems.append(f"{name}: {found[name].data}, not {values}")
    types = {}
    for name, values in expected.items():
        tensor = found.get(name)
        if tensor is None:
            continue
        kind = Type(tensor.tensor_type)
        types[kind.name] = types.get(kind.name, 0) + 1
        same(f"type of {name}", kind, stored_as(asked, name, values.shape))
        same(f"shape of {name}", [int(size) for size in reversed(tensor.shape)], list(values.shape))
        encoded = values if kind == Type.F32 else values.astype(np.float16) if kind == Type.F16 else None
        if encoded is None:
            encoded = quants.quantize(values, kind)
        if np.asarray(tensor.data).tobytes() != np.ascontiguousarray(encoded).tobytes():
            problems.append(f"bytes of {name} ({kind.name}) are not those of the package")
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(types.items()))
    print(f"{'FAILED' if problems else 'ok'}  {path}: {architecture}, {len(keys)} keys, {len(found)} tensors ({counts})")
    for problem in problems[:10]:
        print(f"    {problem[:300]}")
    return not problems


def main(arguments):
    if not arguments or len(arguments) % 3 or not set(arguments[::3]) <= set(FILE_TYPES):
        raise SystemExit(__doc__)
    files = zip(arguments[::3], arguments[1::3], arguments[2::3])
    results = [check(kind, Path(path), Path(folder)) for kind, path, folder in files]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
