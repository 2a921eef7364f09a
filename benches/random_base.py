#!/usr/bin/env python3
"""Writes a model of a real size with random weights, packed as bitsandbytes packs them or not, for measurements of memory and time.

    python benches/random_base.py --size 7b --format nf4 --tokenizer DIR --output models/random-7b-nf4
    python benches/random_base.py --size 8x22b --format bfloat16 --sparse --output models/shape-8x22b

`--tokenizer` is a folder whose tokenizer files are copied. Weights are drawn from repeated blocks of random bytes, so that writing
takes as long as the disk does; with `--sparse` files have headers and holes, which is enough for `collimate plan`. Needs numpy only.
"""
import argparse, json, os, shutil, struct
import numpy as np

# Width, inner width, blocks, heads, key-value heads, vocabulary, and experts, two of them a token.
SIZES = {
    "tiny": (256, 512, 2, 4, 2, 2048, 0),
    "1b": (2048, 8192, 16, 32, 8, 32000, 0),
    "7b": (4096, 11008, 32, 32, 32, 32000, 0),
    "8b": (4096, 14336, 32, 32, 8, 128256, 0),  # as Llama 3.1 8B
    "13b": (5120, 13824, 40, 40, 40, 32000, 0),
    "70b": (8192, 28672, 80, 64, 8, 32016, 0),  # as CodeLlama 70B, the base of Eurus-70b
    "8x22b": (6144, 16384, 56, 48, 8, 32000, 8),  # as Mixtral 8x22B, the base of Eurux-8x22b
}
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
       0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1.0]
BLOCK = 1 << 24


class Writer:
    """A safetensors file whose tensors are written one after the other."""

    def __init__(self, path):
        self.path, self.tensors, self.at = path, [], 0

    def add(self, name, dtype, shape, size, chunks):
        self.tensors.append((name, dtype, shape, size, chunks))

    def finish(self, sparse):
        header, at = {}, 0
        for name, dtype, shape, size, _ in self.tensors:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(self.path, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            if sparse:
                out.truncate(8 + len(text) + at)
                return
            for _, _, _, size, chunks in self.tensors:
                left = size
                for chunk in chunks():
                    out.write(chunk[:left])
                    left -= min(left, len(chunk))
                    if left == 0:
                        break


def repeated(data):
    def chunks():
        while True:
            yield data
    return chunks


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--format", choices=["nf4", "bfloat16", "float32"], default="nf4")
    parser.add_argument("--tokenizer")
    parser.add_argument("--sparse", action="store_true", help="no numbers, only headers and holes")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    if not args.tokenizer and not args.sparse:
        parser.error("--tokenizer is needed for a model that is to be run")
    hidden, inner, layers, heads, kv_heads, vocab, experts = SIZES[args.size]
    rng = np.random.default_rng(0)
    bfloat16 = lambda x: (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    normal = rng.normal(0, 0.02, BLOCK // 4).astype(np.float32)
    plain = repeated(normal.tobytes() if args.format == "float32" else bfloat16(normal))
    size, dtype = (4, "F32") if args.format == "float32" else (2, "BF16")
    codes = repeated(rng.integers(0, 256, BLOCK, dtype=np.uint8).tobytes())
    scales = repeated(np.full(BLOCK // 4, 0.03, np.float32).tobytes())
    os.makedirs(args.output)
    out = Writer(os.path.join(args.output, "model.safetensors"))

    def dense(name, shape, ones=False):
        count = int(np.prod(shape))
        data = repeated(np.ones(1 << 16, np.float32).tobytes() if size == 4 else bfloat16(np.ones(1 << 16))) if ones else plain
        out.add(name, dtype, shape, count * size, data)

    def linear(name, rows, columns):
        if args.format != "nf4":
            return dense(name, [rows, columns])
        count = rows * columns
        state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [rows, columns]}
        text = json.dumps(state).encode()
        out.add(name, "U8", [count // 2, 1], count // 2, codes)
        out.add(f"{name}.absmax", "F32", [count // 64], count // 16, scales)
        out.add(f"{name}.quant_map", "F32", [16], 64, repeated(np.array(NF4, np.float32).tobytes()))
        out.add(f"{name}.quant_state.bitsandbytes__nf4", "U8", [len(text)], len(text), repeated(text))

    dense("model.embed_tokens.weight", [vocab, hidden])
    kv = hidden // heads * kv_heads
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            dense(f"{prefix}{norm}.weight", [hidden], ones=True)
        for name, rows, columns in (("q", hidden, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, hidden)):
            linear(f"{prefix}self_attn.{name}_proj.weight", rows, columns)
        halves = (("gate_proj", "w1", inner, hidden), ("up_proj", "w3", inner, hidden), ("down_proj", "w2", hidden, inner))
        for name, _, rows, columns in halves if experts == 0 else ():
            linear(f"{prefix}mlp.{name}.weight", rows, columns)
        if experts > 0:
            dense(f"{prefix}block_sparse_moe.gate.weight", [experts, hidden])
        for expert in range(experts):
            for _, name, rows, columns in halves:
                linear(f"{prefix}block_sparse_moe.experts.{expert}.{name}.weight", rows, columns)
    dense("model.norm.weight", [hidden], ones=True)
    dense("lm_head.weight", [vocab, hidden])
    out.finish(args.sparse)
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
        "torch_dtype": "float32" if size == 4 else "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    }
    if experts > 0:
        config.update({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": experts,
                       "num_experts_per_tok": 2, "sliding_window": None})
    if args.format == "nf4":
        config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
                                         "bnb_4bit_use_double_quant": False, "bnb_4bit_compute_dtype": "bfloat16"}
    with open(os.path.join(args.output, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        source = os.path.join(args.tokenizer or "", name)
        if args.tokenizer and os.path.exists(source):
            shutil.copy(source, args.output)


main()
