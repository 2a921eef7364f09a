#!/usr/bin/env python3
"""Condition contrastive alignment of a LlamaGen-B cut to 6 layers, 256 tokens: ours and PyTorch's in turns, on two cores.

    python benches/pictures.py --program target/release/collimate --python PYTHON --scratch FOLDER

PYTHON has torch and safetensors. Both sides train the same random model on the same rows, float32, batches of `--batch` pictures, the
reference scored within the time. Ours scores it before the first step, so a step's time is the difference of a long run and a short
one; PyTorch's is the median of its steps after the first. Prints groups a second, the peak of memory of the whole process, and the
losses of both, which must agree.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = {
    "model_type": "llamagen", "gpt_type": "c2i", "dim": 768, "n_layer": 6, "n_head": 12, "multiple_of": 256, "rope_base": 10000,
    "norm_eps": 1e-5, "num_classes": 1000, "vocab_size": 16384, "cls_token_num": 1, "block_size": 256, "initializer_range": 0.02,
}


def write_model(folder):
    """Random weights under the published names, as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    width = CONFIG["dim"]
    inner = -(-(8 * width // 3) // CONFIG["multiple_of"]) * CONFIG["multiple_of"]
    shapes = {"tok_embeddings.weight": [CONFIG["vocab_size"], width], "output.weight": [CONFIG["vocab_size"], width], "norm.weight": [width]}
    shapes["cls_embedding.embedding_table.weight"] = [CONFIG["num_classes"] + 1, width]
    for layer in range(CONFIG["n_layer"]):
        root = f"layers.{layer}"
        shapes[f"{root}.attention.wqkv.weight"] = [3 * width, width]
        shapes[f"{root}.attention.wo.weight"] = [width, width]
        for name, shape in (("w1", [inner, width]), ("w3", [inner, width]), ("w2", [width, inner])):
            shapes[f"{root}.feed_forward.{name}.weight"] = shape
        shapes[f"{root}.attention_norm.weight"] = shapes[f"{root}.ffn_norm.weight"] = [width]
    header, offset, blocks = {"__metadata__": {"format": "pt"}}, 0, []
    draw = random.Random(7)
    # A long list of normal numbers, from which each tensor takes a part that begins elsewhere.
    normal = [draw.gauss(0.0, CONFIG["initializer_range"]) for _ in range(1 << 20)]
    packed = struct.pack(f"<{len(normal)}f", *normal) * 2
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        start = draw.randrange(1 << 20) * 4
        data = struct.pack("<f", 1.0) * count if len(shape) == 1 else repeated(packed, start, 4 * count)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        blocks.append(data)
    text = json.dumps(header)
    text += " " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text.encode())
        for data in blocks:
            file.write(data)


def repeated(packed, start, length):
    """`length` bytes of a list that stands twice in `packed`, from `start` on, as often round as needed."""
    half = len(packed) // 2
    first = packed[start : start + min(length, half)]
    return (first * (length // len(first) + 1))[:length]


def write_rows(path, count):
    draw = random.Random(11)
    length, tokens, classes = CONFIG["block_size"], CONFIG["vocab_size"], CONFIG["num_classes"]
    rows = [{"condition": draw.randrange(classes), "tokens": [draw.randrange(tokens) for _ in range(length)]} for _ in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ours(args, model, rows, steps, name):
    """Seconds and peak of memory of a run of so many steps, and its losses."""
    run = args.scratch / name
    subprocess.run(["rm", "-rf", str(run)], check=True)
    settings = {
        "max_steps": steps, "per_device_train_batch_size": args.batch, "learning_rate": 1e-5, "lr_scheduler_type": "constant",
        "adam_beta2": 0.95, "weight_decay": 0.05, "decay_norms": "false", "objective.beta": 0.02, "objective.lambda": 500,
        "objective.uncond_ratio": 0, "shuffle": "false", "sample_prompts": 0, "reference_cache": "false", "num_threads": args.threads,
        "save_strategy": "no",
    }
    command = [str(args.program), "train", "--model", str(model), "--data", str(rows), "--objective", "cca", "--output", str(run)]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, watch = [0], threading.Thread(target=lambda: watch_peak(process.pid, peak), daemon=True)
    watch.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - begun
    if process.returncode != 0:
        raise SystemExit(errors)
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {"seconds": seconds, "peak_bytes": peak[0], "loss": losses}


def watch_peak(process, peak):
    """Keeps the highest VmHWM of a process that runs."""
    while True:
        try:
            lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            return
        peak[0] = max([peak[0]] + [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")])
        time.sleep(0.05)


def peer(args, model, rows, steps):
    command = [str(args.python), str(ROOT / "benches/peer/pictures.py"), str(model), str(rows)]
    command += ["--steps", str(steps), "--batch", str(args.batch), "--threads", str(args.threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/collimate")
    parser.add_argument("--python", type=pathlib.Path, required=True)
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    model, rows = args.scratch / "model", args.scratch / "rows.jsonl"
    write_model(model)
    write_rows(rows, args.batch * args.steps)
    short = 2
    write_rows(args.scratch / "short.jsonl", args.batch * short)
    mine, others, peaks = [], [], {"ours": 0, "pytorch": 0}
    for _ in range(args.rounds):
        few = ours(args, model, args.scratch / "short.jsonl", short, "short")
        many = ours(args, model, rows, args.steps, "long")
        mine.append((many["seconds"] - few["seconds"]) / (args.steps - short))
        peaks["ours"] = max(peaks["ours"], many["peak_bytes"])
        theirs = peer(args, model, rows, args.steps)
        others.append(statistics.median(theirs["seconds"][1:]))
        peaks["pytorch"] = max(peaks["pytorch"], theirs["peak_bytes"])
    step = {"ours": min(mine), "pytorch": min(others)}
    worst = max(abs(a - b) / abs(b) for a, b in zip(many["loss"], theirs["loss"]))
    print(json.dumps({
        "groups_per_second": {side: args.batch / seconds for side, seconds in step.items()},
        "speed": step["pytorch"] / step["ours"],
        "peak_gib": {side: size / 2**30 for side, size in peaks.items()},
        "memory": peaks["ours"] / peaks["pytorch"],
        "all_seconds_per_step": {"ours": mine, "pytorch": others},
        "largest_difference_of_losses": worst,
    }, indent=1))


if __name__ == "__main__":
    main()
