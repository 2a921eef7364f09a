#!/usr/bin/env python3
"""NCA on a Qwen2-VL, one image of 448 × 448 pixels a prompt, K = 4 answers of 64 tokens: ours and PyTorch's published recipe in turns.

    python benches/images.py --program target/release/collimate --scratch FOLDER --work lora

Needs a Python with benches/peer/requirements.txt. The text model has the shape of SmolLM2-135M, the tower 6 blocks of width 256; weights
are random. Both sides train on the same tokens, images and adapter in float32. Ours scores the reference before the first step and is
given images as files. A run of many steps and one of few, of as many rows as they read, tell a step's time with its share of that,
`cold`; `warm` are the steps alone. PyTorch scores the reference in every step. Prints groups a second, the peak of memory of the whole
process, and how far the losses of both are apart.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time

import peft
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests/python"))
from pictures import watch_peak  # noqa: E402
from program import Program  # noqa: E402
from vision_trips import IMAGE, SMALL, TOKENS, patches, png  # noqa: E402

SIDE, K, LENGTH = 448, 4, 64
GROUPS_PER_STEP = 2
TEXT = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "max_position_embeddings": 2048, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 2,
    "pad_token_id": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
}
TOWER = {"depth": 6, "embed_dim": 256, "hidden_size": 576, "num_heads": 4, "mlp_ratio": 4}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NCA = {"beta": 0.1, "alpha": 0.5}


def write_model(folder):
    """Random weights in the shape above, and an adapter on its text model whose second factor is not zero."""
    torch.manual_seed(7)
    config = transformers.Qwen2VLConfig(text_config=TEXT, vision_config=TOWER, tie_word_embeddings=True, **TOKENS)
    model = transformers.Qwen2VLForConditionalGeneration._from_config(config, dtype=torch.float32)
    model.save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SMALL / name, folder / "model" / name)
    limits = {"min_pixels": 3136, "max_pixels": SIDE * SIDE, "image_processor_type": "Qwen2VLImageProcessor"}
    (folder / "model/preprocessor_config.json").write_text(json.dumps(limits))
    lora = peft.LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, lora)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 0.01)
    adapted.save_pretrained(folder / "adapter")


def write_rows(folder, count):
    """Prompts with an image each, of squares in random colors, and answers of 63 digits and their end."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    draw, colors, rows = random.Random(11), torch.Generator().manual_seed(11), []
    for index in range(count):
        squares = torch.randint(0, 256, (SIDE // 16, SIDE // 16, 3), generator=colors, dtype=torch.uint8)
        levels = squares.repeat_interleave(16, dim=0).repeat_interleave(16, dim=1)
        (folder / f"images/{index}.png").write_bytes(png(levels))
        torch.save(patches(levels), folder / f"images/{index}.pt")
        content = [{"type": "image", "image": f"images/{index}.png"}, {"type": "text", "text": "How many red circles?"}]
        answers = ["".join(str(draw.randrange(10)) for _ in range(LENGTH - 1)) for _ in range(K)]
        responses = [{"content": answer, "reward": draw.random()} for answer in answers]
        rows.append(json.dumps({"prompt": [{"role": "user", "content": content}], "responses": responses}) + "\n")
    return rows


def ours(args, data, name, steps):
    """Seconds and peak of memory of a run of so many steps, and its rows of metrics."""
    run = args.scratch / name
    shutil.rmtree(run, ignore_errors=True)
    settings = {
        "max_steps": steps, "per_device_train_batch_size": GROUPS_PER_STEP, "learning_rate": args.learning_rate,
        "lr_scheduler_type": "constant", "warmup_ratio": 0, "objective.beta": NCA["beta"], "objective.alpha": NCA["alpha"],
        "weight_decay": 0, "max_grad_norm": 1.0, "shuffle": "false", "sample_prompts": 0, "reference_cache": "false",
        "token_cache": "false", "num_threads": args.threads, "save_strategy": "no", "compute_dtype": "float32",
    }
    if args.work == "lora":
        settings["adapter"] = args.scratch / "adapter"
        settings["lora_dropout"] = 0
        # The peer's reference is the model without the adapter, whose second factor is not zero.
        settings["reference"] = "base"
    command = [args.program, "--offline", "train", "--quiet", "--model", args.scratch / "model", "--data", data]
    command += ["--objective", "nca", "--output", run, *(part for pair in settings.items() for part in ("--set", "{}={}".format(*pair)))]
    begun = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = [0]
    threading.Thread(target=lambda: watch_peak(process.pid, peak), daemon=True).start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - begun
    if process.returncode != 0:
        raise SystemExit(errors)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {"seconds": seconds, "peak_bytes": peak[0], "metrics": metrics}


class Peer:
    """PyTorch's process, which takes a step on command."""

    def __init__(self, args, rows, scored):
        groups = [
            {
                "prompt": tokens["prompt_ids"], "responses": [response["response_ids"] for response in tokens["responses"]],
                "rewards": [response["reward"] for response in json.loads(row)["responses"]], "image": str(index),
            }
            for index, (row, tokens) in enumerate(zip(rows, scored, strict=True))
        ]
        settings = {
            "threads": args.threads, "device": "cpu", "dtype": "float32", "float32_matmul_precision": "highest",
            "model": str(args.scratch / "model"), "adapter": str(args.scratch / "adapter") if args.work == "lora" else None,
            "learning_rate": args.learning_rate, "max_grad_norm": 1.0, "groups_per_step": GROUPS_PER_STEP, "pad_id": 0,
            "image_id": IMAGE, "groups": groups, **NCA,
            "patches": {str(index): str(args.scratch / f"images/{index}.pt") for index in range(len(groups))},
        }
        path = args.scratch / "peer.json"
        path.write_text(json.dumps(settings))
        command = [sys.executable, str(ROOT / "benches/peer/images.py"), str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("PyTorch's side ended")
        return json.loads(line)

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/collimate")
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("--work", choices=["lora", "full"], default="lora")
    parser.add_argument("--rounds", type=int, default=3, help="of two steps of PyTorch's and a long and a short run of ours each")
    parser.add_argument("--steps", type=int, default=6, help="of a long run")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    args.scratch.mkdir(parents=True, exist_ok=True)
    write_model(args.scratch)
    rows = write_rows(args.scratch, args.steps * GROUPS_PER_STEP)
    files = {count: args.scratch / f"{name}.jsonl" for name, count in (("few", 1), ("many", args.steps))}
    for count, path in files.items():
        path.write_text("".join(rows[: count * GROUPS_PER_STEP]))
    scored = Program(args.program).score(files[args.steps], args.scratch / "scored.jsonl", args.scratch / "model")
    assert all(len(response["response_ids"]) == LENGTH for row in scored for response in row["responses"])
    peer, theirs, cold, warm, peak = Peer(args, rows, scored), [], [], [], 0
    for _ in range(args.rounds):
        theirs += [peer.ask("step") for _ in range(2)]
        few, many = (ours(args, files[count], f"run-{count}", count) for count in (1, args.steps))
        cold.append((many["seconds"] - few["seconds"]) / (args.steps - 1))
        warm += [row["step_seconds"] for row in many["metrics"][1:]]
        peak = max(peak, many["peak_bytes"])
    peer_peak = peer.ask("quit")["peak_rss_bytes"]
    step = {"ours, cold": statistics.median(cold), "ours, warm": statistics.median(warm)}
    step["pytorch"] = statistics.median(row["seconds"] for row in theirs)
    pairs = [(mine[key], other[key]) for mine, other in zip(many["metrics"], theirs) for key in ("loss", "grad_norm")]
    print(json.dumps({
        "work": args.work,
        "seconds_per_step": step,
        "groups_per_second": {side: GROUPS_PER_STEP / seconds for side, seconds in step.items()},
        "speed": {kind: step["pytorch"] / step[f"ours, {kind}"] for kind in ("cold", "warm")},
        "peak_gib": {"ours": peak / 2**30, "pytorch": peer_peak / 2**30},
        "memory": peak / peer_peak,
        "all_seconds": {"ours, cold": cold, "ours, warm": warm, "pytorch": [row["seconds"] for row in theirs]},
        "losses": {"ours": [row["loss"] for row in many["metrics"]], "pytorch": [row["loss"] for row in theirs]},
        "largest_difference": max(abs(a - b) / abs(b) for a, b in pairs),
    }, indent=1))


if __name__ == "__main__":
    main()
