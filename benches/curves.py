#!/usr/bin/env python3
"""Training curves in one type of numbers against those in float32: loss, held-out accuracy and chosen log-prob, by seed.

    curves.py --program target/release/collimate --model FOLDER --data FOLDER --out FOLDER
              [--tasks quickstart gsm8k] [--types float32 high bfloat16] [--seeds 1 2 3] [--steps 300] [--backend flex]

Tasks are `quickstart` (the built-in one: all weights; its problems, responses and order depend on the seed), `gsm8k` (LoRA r 16 on MODEL,
with gsm8k_rewards.jsonl of the data) and `gsm8k-full` (all weights). Types are float32, `high` and `medium` (float32 with these
float32_matmul_precision) and bfloat16. A run that OUT holds already is not repeated, so a stopped measurement goes on; the folder of a
run that was cut off has to be removed. The tables go to standard output, and with every step to OUT/curves.json. The exit code is 1 if a run failed or strayed: the mean of a figure over the seeds
differs from float32's by more than a standard deviation of float32's seeds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

TYPES = {
    "float32": {},
    "high": {"float32_matmul_precision": "high"},
    "medium": {"float32_matmul_precision": "medium"},
    "bfloat16": {"compute_dtype": "bfloat16"},
}
COMMON = {"logging_steps": 1, "sample_prompts": 0, "reference_cache": "false", "token_cache": "false", "save_minutes": 0}
# GSM8K's prompts are shared out once; the quickstart has 200 problems of its own beside these.
TASKS = {
    "quickstart": {"objective": "nca", "eval_fraction": 0.1},
    "gsm8k": {"use_peft": "true", "learning_rate": 1e-4},
    "gsm8k-full": {"learning_rate": 2e-5},
}
GSM8K = {"objective": "nca", "per_device_train_batch_size": 4, "eval_fraction": 128}
# The last part of the steps, whose mean stands for a run's end.
END = 0.1
# Name in tables, and the key of a run's figures.
FIGURES = (
    ("loss, last tenth of the steps", "loss"),
    ("held-out loss", "eval_loss"),
    ("held-out accuracy", "eval_rewards/accuracies"),
    ("held-out chosen log-prob, nats", "eval_logps/chosen"),
    ("held-out chosen log-ratio, nats", "eval_log_ratios/chosen"),
    ("problems solved greedily", "accuracy_greedy"),
    ("problems solved sampled", "accuracy_sampled"),
)


def settings_of(task, kind, seed, options):
    settings = {**COMMON, **TASKS[task], **TYPES[kind], "seed": seed, "max_steps": options.steps, "backend": options.backend}
    if task != "quickstart":
        settings |= {**GSM8K, "model_name_or_path": options.model, "data": options.data / "gsm8k_rewards.jsonl"}
    return settings


def train(folder, settings, options):
    """Trains into a folder, unless it holds a whole run with these settings; its seconds."""
    made, wanted = folder.with_suffix(".json"), {key: str(value) for key, value in settings.items()}
    if made.is_file():
        old = json.loads(made.read_text())
        if old["settings"] != wanted:
            raise RuntimeError(f"{folder} is of other settings; name another --out")
        return old["seconds"]
    if folder.exists():
        raise RuntimeError(f"{folder} holds a run that did not end; remove it")
    command = [options.program, "train", "--output", folder, *(part for key, value in wanted.items() for part in ("--set", f"{key}={value}"))]
    began = time.monotonic()
    with open(folder.with_suffix(".log"), "w") as log:
        done = subprocess.run(list(map(str, command)), stdout=log, stderr=log)
    if done.returncode != 0:
        told = [line for line in folder.with_suffix(".log").read_text().splitlines() if line.startswith("error")]
        raise RuntimeError(f"ended with {done.returncode}, see {folder.with_suffix('.log')}: {' '.join(told[-1:])}")
    seconds = time.monotonic() - began
    made.write_text(json.dumps({"settings": wanted, "seconds": seconds}) + "\n")
    return seconds


def curve(folder):
    """The losses of a run's steps, and the figures of its end."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    held_out = [row for row in rows if "eval_loss" in row]
    if not losses or not held_out:
        raise RuntimeError(f"{folder}: no steps or no evaluation in metrics.jsonl")
    last = held_out[-1]
    figures = {"loss": statistics.fmean(losses[-max(1, round(END * len(losses))) :])}
    figures |= {key: last[key] for _, key in FIGURES if last.get(key) is not None}
    solved = folder / "results.json"
    if solved.is_file():
        results = json.loads(solved.read_text())
        figures |= {key: results[key]["after"] for key in ("accuracy_greedy", "accuracy_sampled")}
    return losses, figures


def spread(values):
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def apart(losses, others):
    """Mean relative difference of two runs' steps, the largest, and the largest of means over ten steps."""
    differences = [(a - b) / abs(b) for a, b in zip(losses, others, strict=True)]
    tens = [abs(statistics.fmean(differences[i : i + 10])) for i in range(0, len(differences), 10)]
    return statistics.fmean(map(abs, differences)), max(map(abs, differences)), max(tens)


def compare(task, runs, options):
    """The task's tables as text, and what strayed beyond the seeds' spread."""
    kinds = [kind for kind in options.types if (task, kind) in {run[:2] for run in runs}]
    values = {
        (kind, key): [runs[task, kind, seed]["figures"][key] for seed in options.seeds if key in runs.get((task, kind, seed), {}).get("figures", {})]
        for kind in kinds
        for _, key in FIGURES
    }
    lines, strayed = [f"\n{task}, {options.steps} steps, seeds {', '.join(map(str, options.seeds))}: mean ± standard deviation\n"], []
    lines += ["| figure | " + " | ".join(kinds) + " |", "|---|" + "--:|" * len(kinds)]
    for title, key in FIGURES:
        cells = []
        for kind in kinds:
            of_kind, exact = values[kind, key], values.get(("float32", key), [])
            if not of_kind:
                cells.append("–")
                continue
            far = len(exact) > 1 and abs(statistics.fmean(of_kind) - statistics.fmean(exact)) > spread(exact)
            strayed += [f"{task}, {kind}: {title}"] if far else []
            cells.append(f"{statistics.fmean(of_kind):.5g} ± {spread(of_kind):.2g}" + (" (strays)" if far else ""))
        if any(cell != "–" for cell in cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for kind in kinds:
        pairs = [(runs.get((task, kind, seed)), runs.get((task, "float32", seed))) for seed in options.seeds]
        steps = [apart(run["losses"], exact["losses"]) for run, exact in pairs if run and exact]
        if kind != "float32" and steps:
            mean, largest, tens = (max(part) for part in zip(*steps))
            lines.append(f"\n{kind} against float32 with the same seed, the worst seed: losses differ by {mean:.1e} in the mean, {largest:.1e} in a step, {tens:.1e} over ten")
    return "\n".join(lines), strayed


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, help="for GSM8K")
    parser.add_argument("--data", type=pathlib.Path, help="for GSM8K: the folder of gsm8k_rewards.jsonl")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["quickstart", "gsm8k"])
    parser.add_argument("--types", nargs="+", choices=TYPES, default=["float32", "high", "bfloat16"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--backend", default="flex")
    options = parser.parse_args()
    if set(options.tasks) - {"quickstart"} and not (options.model and options.data):
        parser.error("gsm8k needs --model and --data")
    return options


def main():
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    runs, failed = {}, []
    # Seed by seed, so that what is there after an hour can be compared.
    for seed in options.seeds:
        for task in options.tasks:
            for kind in options.types:
                name = f"{task}-{kind}-{seed}"
                try:
                    seconds = train(options.out / name, settings_of(task, kind, seed, options), options)
                    losses, figures = curve(options.out / name)
                except (RuntimeError, OSError, KeyError, ValueError) as error:
                    failed.append(f"{name}: {error}")
                    print(f"{name} FAILED: {error}", file=sys.stderr, flush=True)
                    continue
                runs[task, kind, seed] = {"figures": figures, "losses": losses}
                print(f"{name}: {seconds:.0f} s, loss {figures['loss']:.5f}", file=sys.stderr, flush=True)
    strayed = []
    for task in options.tasks:
        text, far = compare(task, runs, options)
        print(text)
        strayed += far
    for line in strayed:
        print(f"\nbeyond the seeds' spread: {line}")
    record = [{"task": task, "type": kind, "seed": seed, **run} for (task, kind, seed), run in runs.items()]
    (options.out / "curves.json").write_text(json.dumps({"steps": options.steps, "runs": record, "failed": failed, "strayed": strayed}, indent=1) + "\n")
    sys.exit(1 if failed or strayed else 0)


if __name__ == "__main__":
    main()
