#!/usr/bin/env python3
"""The whole measurement on a GPU, in under ten minutes: parity, bfloat16's loss curve, memory over 200 steps, speed.

    gpu.py --programs FOLDER --data FOLDER --out FOLDER [--backend cuda] [--python PYTHON] [--minutes 9.5]

FOLDER of programs holds `collimate`, `bench-compare` and `bench-ours`, built with the backend's feature:

    cargo build --release -p collimate -p collimate-benches --features collimate/cuda,collimate-benches/cuda

Another FOLDER of such programs with the features collimate/fusion and collimate-benches/fusion too, as --fused, is compared with it.
With libtorch in place of cuda they need PyTorch 2.9 on the machine, its `torch/lib` in LD_LIBRARY_PATH. The machine needs no
Rust; for the comparison PYTHON needs torch, transformers and peft. What is measured goes into
OUT/gpu.json and to standard output, stage by stage, so that one that fails or runs out of time takes nothing with it. The
exit code is 1 if a check failed.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Relative, of a response's log-prob: as on every backend in float32.
LOGPS = 1e-5
# Relative, of a step's loss in bfloat16 against float32.
CURVE = 1e-2
# How much more memory may be in use at the end of 200 steps than after 50.
GROWTH = 1.02
# Shape, works and steps, the most telling first.
SPEED = (
    ("1b", ("device-k4",), 4),
    ("8b", ("device-k4-single",), 3),
    ("1b", ("device-k2", "device-long"), 3),
    ("135m", ("device-k2", "device-k4", "device-long"), 3),
    ("8b", ("device-long",), 3),
)


class Measurement:
    def __init__(self, options):
        self.options, self.began = options, time.monotonic()
        self.out = options.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.results, self.failed = {"backend": options.backend, "stages": []}, False

    def left(self):
        return self.options.minutes * 60 - (time.monotonic() - self.began)

    def program(self, name, *arguments, limit=None, fused=False):
        """Runs a program and returns its standard output; standard error goes to a file."""
        folder = self.options.fused if fused else self.options.programs
        command = [str(folder.resolve() / name), *map(str, arguments)]
        with open(self.out / "stderr.txt", "a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=log, text=True, timeout=min(limit or 1e9, max(self.left(), 1))
            )
        if done.returncode != 0:
            raise RuntimeError(f"{name} {arguments[0]} ended with {done.returncode}; see {self.out / 'stderr.txt'}")
        return done.stdout

    def stage(self, name, work):
        """Runs a stage and writes its result at once."""
        began = time.monotonic()
        if self.left() < 5:
            row = {"stage": name, "verdict": "NOT RUN", "detail": "no time was left"}
        else:
            try:
                verdict, detail = work()
                row = {"stage": name, "verdict": "ok" if verdict else "FAILED", **detail}
            except Exception as error:
                row = {"stage": name, "verdict": "FAILED", "error": f"{type(error).__name__}: {error}"}
        row["seconds"] = round(time.monotonic() - began, 1)
        self.failed |= row["verdict"] == "FAILED"
        self.results["stages"].append(row)
        (self.out / "gpu.json").write_text(json.dumps(self.results, indent=1) + "\n")
        print(json.dumps(row), flush=True)

    def backends(self):
        told = self.program("collimate", "backends", limit=60)
        gpus = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout if shutil.which("nvidia-smi") else ""
        return self.options.backend in told, {"told": told.splitlines(), "gpus": gpus.splitlines()}

    def assets(self):
        """A model of ten million random weights, and its tokenizer."""
        self.bench("10m", ("device-k2",), 1, python=False)
        return True, {"model": str(self.model())}

    def model(self):
        return self.out / "scratch/10m/model"

    def rows(self, count):
        path = self.out / f"rows-{count}.jsonl"
        lines = (self.options.data / "gsm8k_rewards.jsonl").read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:count]))
        return path

    def scores(self, backend, fused=False):
        out = self.out / f"scores-{backend}{'-fused' if fused else ''}.jsonl"
        arguments = ["score", "--model", self.model(), "--data", self.rows(32), "--output", out, "--backend", backend]
        self.program("collimate", *arguments, limit=120, fused=fused)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        return [response["logps"] for row in rows for response in row["responses"]]

    def parity(self, fused=False):
        expected, found = self.scores("flex"), self.scores(self.options.backend, fused)
        apart = max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
        return apart <= LOGPS, {"responses": len(found), "largest_relative_difference": apart}

    def train(self, name, steps, *settings):
        """A run with LoRA; the rows of its metrics."""
        folder = self.out / name
        shutil.rmtree(folder, ignore_errors=True)
        keys = {
            "model_name_or_path": self.model(),
            "data": self.rows(400),
            "output_dir": folder,
            "use_peft": "true",
            "max_steps": steps,
            "learning_rate": 1e-4,
            "lr_scheduler_type": "constant",
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "sample_prompts": 0,
            "backend": self.options.backend,
        }
        sets = [f"{key}={value}" for key, value in keys.items()] + list(settings)
        self.program("collimate", "train", *(part for one in sets for part in ("--set", one)), limit=150)
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [row["loss"] for row in rows if "loss" in row]

    def curve(self):
        exact, rounded = self.train("float32", 100), self.train("bfloat16", 100, "compute_dtype=bfloat16")
        apart = [abs(a - b) / abs(b) for a, b in zip(rounded, exact, strict=True)]
        detail = {"steps": len(exact), "largest": max(apart), "mean": sum(apart) / len(apart), "float32": exact, "bfloat16": rounded}
        return max(apart) <= CURVE, detail

    def memory(self):
        samples, stop = [], threading.Event()

        def sample():
            while not stop.wait(0.5):
                told = subprocess.run(
                    ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], capture_output=True, text=True
                )
                if told.returncode == 0:
                    samples.append(int(told.stdout.splitlines()[0]))

        thread = threading.Thread(target=sample)
        if shutil.which("nvidia-smi"):
            thread.start()
        try:
            steps = len(self.train("memory", 200, "compute_dtype=bfloat16"))
        finally:
            stop.set()
        # A run's first quarter finds the shapes.
        settled, end = max(samples[: len(samples) // 4], default=0), max(samples[-5:], default=0)
        detail = {"steps": steps, "mib_after_a_quarter": settled, "mib_at_the_end": end, "samples": len(samples)}
        return bool(samples) and end <= GROWTH * settled, detail

    def bench(self, shape, works, steps, python=True, fused=False):
        out = self.out / ("results-fused.json" if fused else "results.json")
        before = json.loads(out.read_text())["works"] if out.is_file() else []
        command = ["--shape", shape, f"--steps={steps}", "--warmup=2", "--threads=8", "--backend", self.options.backend]
        for work in works:
            command += ["--work", work]
        if shape != "10m":
            command.append("--bf16")
        if python:
            command += ["--peer", "--python", self.options.python]
        command += ["--data", self.options.data, "--scratch", self.out / "scratch", "--root", ROOT, "--out", out]
        told = self.program("bench-compare", *command, fused=fused)
        figures = [work for work in json.loads(out.read_text())["works"] if work not in before]
        return [{"work": work["work"], "shape": work["shape"], "figures": work["figures"]} for work in figures], told

    def speed(self, shape, works, steps, **how):
        figures, told = self.bench(shape, works, steps, **how)
        print(told, flush=True)
        return True, {"figures": figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--fused", type=pathlib.Path, help="programs in which burn joins operations")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--checks", action="store_true", help="leave the speed out")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    options.data = options.data.resolve()
    measurement = Measurement(options)
    measurement.stage("backends", measurement.backends)
    measurement.stage("a small model", measurement.assets)
    measurement.stage("parity in float32", measurement.parity)
    measurement.stage("loss curve in bfloat16", measurement.curve)
    measurement.stage("memory over 200 steps", measurement.memory)
    if options.fused:
        measurement.stage("parity in float32, fused", lambda: measurement.parity(fused=True))
    for shape, works, steps in () if options.checks else SPEED:
        measurement.stage(f"speed, {shape}, {', '.join(works)}", lambda: measurement.speed(shape, works, steps))
        if options.fused and (shape, works, steps) == SPEED[0]:
            fused = {"python": False, "fused": True}
            measurement.stage(f"speed, {shape}, fused", lambda: measurement.speed(shape, works, steps, **fused))
    sys.exit(1 if measurement.failed else 0)


if __name__ == "__main__":
    main()
