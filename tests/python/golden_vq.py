"""Makes the golden values of tests/golden/vq: pictures that tiny decoders of LlamaGen's and VAR's quantizers make of tokens.

    python tests/python/golden_vq.py

The decoders are written here from their definitions (LlamaGen: tokenizer/tokenizer_image/vq_model.py, VAR: models/basic_vae.py,
models/quant.py of their repositories), layer by layer over tensors of the published names, in PyTorch's float32. Weights are
drawn as those of every golden model. The worst difference to the same in float64 is printed.
"""

import hashlib
import json

import torch
from torch.nn import functional as F

from golden_models import GOLDEN, drawn, file_of

FOLDER = GOLDEN / "vq"
# Channels by level, the smallest side first: the published ones are 512 256 256 128 128.
LEVELS = [64, 32]
BLOCKS = 3


def layer(tensors, name, outputs, inputs, side):
    """A convolution; weights that keep the size of numbers, or nearly."""
    tensors[f"{name}.weight"] = [[outputs, inputs, side, side], 0.0, (inputs * side * side) ** -0.5]
    tensors[f"{name}.bias"] = [[outputs], 0.0, 0.1]


def norm(tensors, name, channels):
    tensors[f"{name}.weight"] = [[channels], 1.0, 0.2]
    tensors[f"{name}.bias"] = [[channels], 0.0, 0.2]


def residual(tensors, name, inputs, outputs):
    norm(tensors, f"{name}.norm1", inputs)
    layer(tensors, f"{name}.conv1", outputs, inputs, 3)
    norm(tensors, f"{name}.norm2", outputs)
    layer(tensors, f"{name}.conv2", outputs, outputs, 3)
    if inputs != outputs:
        layer(tensors, f"{name}.nin_shortcut", outputs, inputs, 1)


def attention(tensors, name, channels, joint):
    norm(tensors, f"{name}.norm", channels)
    if joint:
        layer(tensors, f"{name}.qkv", 3 * channels, channels, 1)
    else:
        for part in "qkv":
            layer(tensors, f"{name}.{part}", channels, channels, 1)
    layer(tensors, f"{name}.proj_out", channels, channels, 1)


def decoder(kind, width):
    """Names, shapes, means and deviations of a decoder's tensors."""
    tensors, is_var = {}, kind == "var"
    channels, z = LEVELS[0], width if is_var else 8
    layer(tensors, "post_quant_conv", z, width, 3 if is_var else 1)
    layer(tensors, "decoder.conv_in", channels, z, 3)
    for name in middle(kind):
        if name.endswith(("mid.1", "attn_1")):
            attention(tensors, name, channels, is_var)
        else:
            residual(tensors, name, channels, channels)
    for number, outputs in enumerate(LEVELS):
        root, block = level(kind, number)
        for index in range(BLOCKS):
            residual(tensors, f"{root}.{block}.{index}", channels, outputs)
            channels = outputs
            if number == 0:
                attention(tensors, f"{root}.attn.{index}", channels, is_var)
        if number + 1 < len(LEVELS):
            layer(tensors, f"{root}.upsample.conv", channels, channels, 3)
    norm(tensors, "decoder.norm_out", channels)
    layer(tensors, "decoder.conv_out", 3, channels, 3)
    return tensors


def middle(kind):
    names = ["block_1", "attn_1", "block_2"] if kind == "var" else ["0", "1", "2"]
    return [f"decoder.mid.{name}" for name in names]


def level(kind, number):
    """The root of a level, counted from the smallest side, and what its blocks are called."""
    if kind == "var":
        return f"decoder.up.{len(LEVELS) - 1 - number}", "block"
    return f"decoder.conv_blocks.{number}", "res"


class Layers:
    """Layers by the names of their tensors."""

    def __init__(self, weights):
        self.weights = weights

    def convolution(self, name, x):
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(self, name, x):
        return F.group_norm(x, 32, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps=1e-6)

    def residual(self, name, x):
        h = self.convolution(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)))
        h = self.convolution(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", h)))
        if f"{name}.nin_shortcut.weight" in self.weights:
            x = self.convolution(f"{name}.nin_shortcut", x)
        return x + h

    def attention(self, name, x):
        h = self.norm(f"{name}.norm", x)
        if f"{name}.qkv.weight" in self.weights:
            parts = self.convolution(f"{name}.qkv", h).chunk(3, dim=1)
        else:
            parts = [self.convolution(f"{name}.{part}", h) for part in "qkv"]
        q, k, v = (part.flatten(2).transpose(1, 2) for part in parts)
        weights = torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1)
        out = (weights @ v).transpose(1, 2).reshape(x.shape)
        return x + self.convolution(f"{name}.proj_out", out)

    def decode(self, kind, entries):
        h = self.convolution("decoder.conv_in", self.convolution("post_quant_conv", entries))
        for name in middle(kind):
            h = (self.attention if f"{name}.norm.weight" in self.weights else self.residual)(name, h)
        for number in range(len(LEVELS)):
            root, block = level(kind, number)
            for index in range(BLOCKS):
                h = self.residual(f"{root}.{block}.{index}", h)
                if f"{root}.attn.{index}.norm.weight" in self.weights:
                    h = self.attention(f"{root}.attn.{index}", h)
            if f"{root}.upsample.conv.weight" in self.weights:
                h = self.convolution(f"{root}.upsample.conv", F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.convolution("decoder.conv_out", F.silu(self.norm("decoder.norm_out", h)))


def llamagen(layers, config, tokens):
    """Entries of length 1 at the places of one map."""
    side = int(config["block_size"] ** 0.5)
    table = layers.weights["quantize.embedding.weight"]
    if config.get("codebook_l2_norm", True):
        table = F.normalize(table, p=2, dim=-1)
    entries = table[torch.tensor(tokens)].T.reshape(1, -1, side, side)
    return layers.decode("llamagen", entries)[0]


def var(layers, config, tokens):
    """Maps of growing sides, enlarged, half smoothed and added up; pictures are cut to [−1, 1]."""
    sides, ratio, total, start = config["patch_nums"], config["quant_resi"], 0, 0
    ticks = torch.linspace(1 / 12, 11 / 12, 4, dtype=torch.float64)
    for number, side in enumerate(sides):
        ids = torch.tensor(tokens[start : start + side * side])
        start += side * side
        h = layers.weights["quantize.embedding.weight"][ids].T.reshape(1, -1, side, side)
        if side != sides[-1]:
            h = F.interpolate(h, size=(sides[-1], sides[-1]), mode="bicubic")
        nearest = int((ticks - number / (len(sides) - 1)).abs().argmin())
        name = f"quantize.quant_resi.qresi_ls.{nearest}"
        total = total + h * (1 - ratio) + layers.convolution(name, h) * ratio
    return layers.decode("var", total)[0].clamp(-1, 1)


CASES = {
    "llamagen": {
        "seed": 7301, "run": llamagen, "file": "vq.safetensors", "width": 6, "entries": {},
        "config": {"model_type": "llamagen", "dim": 32, "n_layer": 1, "n_head": 2, "vocab_size": 24, "num_classes": 3, "block_size": 9},
    },
    "llamagen_not_unit": {
        "seed": 7302, "run": llamagen, "file": "vq.safetensors", "width": 6, "entries": {},
        "config": {
            "model_type": "llamagen", "dim": 32, "n_layer": 1, "n_head": 2, "vocab_size": 24, "num_classes": 3, "block_size": 4,
            "codebook_l2_norm": False,
        },
    },
    "var": {
        "seed": 7303, "run": var, "file": "vae.safetensors", "width": 8,
        "entries": {f"quantize.quant_resi.qresi_ls.{number}": 8 for number in range(4)},
        "config": {
            "model_type": "var", "depth": 1, "embed_dim": 32, "num_heads": 2, "vocab_size": 24, "num_classes": 3, "Cvae": 8,
            "patch_nums": [1, 2, 3, 5], "quant_resi": 0.5, "share_quant_resi": 4,
        },
    },
}


def main():
    torch.set_num_threads(1)
    for name, case in CASES.items():
        folder, config = FOLDER / name, case["config"]
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"quantize.embedding.weight": [[config["vocab_size"], case["width"]], 0.0, 1.0]}
        for convolution, width in case["entries"].items():
            layer(tensors, convolution, width, width, 3)
        tensors |= decoder(config["model_type"], case["width"])
        listed = {"seed": case["seed"], "dtype": "float32", "sha256": "", "tensors": tensors}
        listed["sha256"] = hashlib.sha256(file_of(listed)).hexdigest()
        weights = {key: torch.from_numpy(drawn(case["seed"], key, *spec)) for key, spec in tensors.items()}
        count = sum(side * side for side in config.get("patch_nums", [])) or config["block_size"]
        rows = [[(17 * row + 5 * place * (place + row) + place // 3) % config["vocab_size"] for place in range(count)] for row in range(2)]
        double = {key: value.double() for key, value in weights.items()}
        pictures, worst = [], 0.0
        for tokens in rows:
            colors = case["run"](Layers(weights), config, tokens)
            worst = max(worst, float((colors.double() - case["run"](Layers(double), config, tokens)).abs().max()))
            # [side, side, 3], as files of pictures have them.
            pictures.append({"tokens": tokens, "colors": [round(float(x), 7) for x in colors.permute(1, 2, 0).flatten()]})
        write(folder / "config.json", config)
        write(folder / f"{case['file']}.json", listed)
        write(folder / "pictures.json", pictures)
        print(f"{name}: {len(tensors)} tensors, float32 differs from float64 by {worst:.1e}")
    files = sorted(path for path in FOLDER.rglob("*.json"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(FOLDER)}\n" for path in files]
    (FOLDER / "SHA256SUMS").write_text("".join(sums))


def write(path, value):
    path.write_text(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
