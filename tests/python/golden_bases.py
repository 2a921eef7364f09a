"""Makes what PyTorch computes over quantized bases: the values of tests/golden/quantized.

    python tests/python/golden_bases.py

Folders are as those of `make_golden.py`, with the inputs that it names. A base is the model with each weight of its linear
layers as bitsandbytes packs and unpacks it, and nothing else is rounded: those weights are exact in float32, and PyTorch
computes with them in float64. Rows of a matrix are whole blocks, so that all of bitsandbytes' kernels agree.

  logps.json                         token ids of responses, and their log-probs by format
  train/RUN/expected.jsonl           one row per step of an adapter over the base in the format that case.json names
"""

import json
import pathlib
import shutil
import tempfile

import bitsandbytes
import safetensors.torch
import torch
import transformers

import golden_models
from golden_models import GOLDEN
from make_golden import (
    DTYPES,
    NUM_GROUPS_SCORED,
    encode,
    list_adapter,
    list_model,
    load,
    read_lines,
    token_logps,
    train,
    write_json,
    write_lines,
    write_sums,
)

FORMATS = ("nf4", "nf4-double", "int8")
# A router's choices are not rounded.
ROUTER = ".block_sparse_moe.gate.weight"


def repacked(weight, quantization):
    """The numbers that a packed weight stands for."""
    if quantization == "int8":
        packed = bitsandbytes.nn.Int8Params(weight, requires_grad=False).to("cpu")
        return packed.data.float() * packed.SCB[:, None] / 127.0
    double = quantization == "nf4-double"
    packed = bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=double)
    packed = packed.to("cpu")
    return bitsandbytes.functional.dequantize_4bit(packed.data, packed.quant_state).reshape(weight.shape)


def write_base(model, quantization, folder):
    """The model's folder, with the weights of the linear layers of blocks as they are unpacked."""
    shutil.copytree(model, folder)
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    for name, tensor in tensors.items():
        if ".layers." in name and tensor.dim() == 2 and not name.endswith(ROUTER):
            tensors[name] = repacked(tensor, quantization)
            assert not torch.equal(tensor, tensors[name]), name
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def score(bases, tokenizer, groups, dtype):
    models = {quantization: load(base, dtype) for quantization, base in bases.items()}
    rows = []
    with torch.no_grad():
        for group in groups:
            for response in group["responses"]:
                prompt_ids, ids = encode(tokenizer, group["prompt"], response["content"])
                found = {name: token_logps(model, prompt_ids, ids) for name, model in models.items()}
                row = {"prompt": group["prompt"], "response": response["content"]}
                row |= {"prompt_ids": prompt_ids, "response_ids": ids}
                row["token_logps"] = {name: logps.tolist() for name, logps in found.items()}
                rows.append(row | {"logps": {name: logps.sum().item() for name, logps in found.items()}})
    return rows


def make_family(name, groups, scratch):
    family, out = GOLDEN / name, scratch / "golden"
    settings = json.loads((family / "golden.json").read_text())
    seed, dtype = settings["seed"], DTYPES[settings["dtype"]]
    list_model(family, seed, scratch)
    golden_models.unpack_family(name, out)
    model = out / "models" / golden_models.unpacked_name(name)
    runs = sorted(path.parent for path in family.glob("train/*/case.json"))
    for i, run in enumerate(runs):
        list_adapter(run / "initial_adapter", model, seed + 2 + i, 0.0, scratch)
    golden_models.unpack_family(name, out)
    bases = {quantization: scratch / "bases" / quantization for quantization in FORMATS}
    for quantization, base in bases.items():
        write_base(model, quantization, base)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(model)
    rows = score(bases, tokenizer, groups[:NUM_GROUPS_SCORED], dtype)
    write_json(family / "logps.json", rows)
    line = f"{name}: " + ", ".join(f"{quantization} {rows[0]['logps'][quantization]:.6f}" for quantization in FORMATS)
    for run in runs:
        case, folder = json.loads((run / "case.json").read_text()), out / "train" / run.name
        base = bases[case["quantization"]]
        steps, final = train(folder, base, case, tokenizer, groups, dtype)
        write_lines(run / "expected.jsonl", steps)
        write_json(run / "final.json", {"final_policy_logps_of_first_4_groups": final})
        rounded, _ = train(folder, base, case, tokenizer, groups, torch.float32)
        apart = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(rounded, steps))
        line += f"; {run.name}: loss {steps[0]['loss']:.6f} to {steps[-1]['loss']:.6f}, float32 off by {apart:.0e}"
    print(line, flush=True)


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    groups = read_lines(GOLDEN / "data.jsonl")
    for settings in sorted(GOLDEN.glob("quantized/*/golden.json")):
        with tempfile.TemporaryDirectory() as scratch:
            make_family(f"quantized/{settings.parent.name}", groups, pathlib.Path(scratch))
    write_sums(GOLDEN)


if __name__ == "__main__":
    main()
