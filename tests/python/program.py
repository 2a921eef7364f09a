"""This side: the program, called as a user calls it."""

import json
import subprocess


class Program:
    """Collimate's command line."""

    def __init__(self, path):
        self.path = path

    def run(self, *arguments):
        """Runs a verb and returns what it printed; a failure is an error that ends as the program's message does."""
        command = [str(argument) for argument in (self.path, "--offline", *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        if done.returncode != 0:
            message = " ".join(done.stderr.split())
            raise RuntimeError(f"`collimate {arguments[0]}` failed ({done.returncode}): {message[-600:]}")
        return done.stdout

    def has(self, verb):
        """Whether the program knows the verb."""
        return subprocess.run([str(self.path), verb, "--help"], capture_output=True).returncode == 0

    def train(self, model, data, output, **keys):
        """Trains for three steps, without what takes time and is not looked at."""
        keys = {
            "max_steps": 3,
            "learning_rate": 2e-3,
            "lr_scheduler_type": "constant",
            "warmup_ratio": 0,
            "sample_prompts": 0,
            "reference_cache": "false",
        } | keys
        settings = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
        self.run("train", "--quiet", "--model", model, "--data", data, "--output", output, *settings)
        return output

    def score(self, data, output, model, adapter=None, *options):
        """The rows that `score` writes for a model, with token ids."""
        on_top = [*options, "--adapter", adapter] if adapter else options
        self.run("score", "--quiet", "--force", "--tokens", "--model", model, *on_top, "--data", data, "--output", output)
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
