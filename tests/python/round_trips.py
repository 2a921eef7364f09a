"""Models and adapters go from Collimate to transformers and PEFT and back, and must give the same numbers.

One line a check; the exit code is 1 if any failed. It needs what requirements.txt names; `cargo xtask python-check`
builds the program, makes the environment and runs it.
"""

import argparse
import functools
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import golden_models  # noqa: E402
import nested_models  # noqa: E402
import quantized_trips  # noqa: E402
import reference  # noqa: E402
import rows  # noqa: E402
import vision_trips  # noqa: E402
from program import Program  # noqa: E402
from reference import Different  # noqa: E402

# As LOGPS in crates/collimate-oracle/src/tolerances.rs: log-probs summed over a response, in float32 on both sides, relative.
# It holds for weights stored in bfloat16 too, which both sides read as they are.
LOGPS = 1e-5
# Merged weights, absolute: a few roundings of numbers up to 2 in float32.
WEIGHTS = 1e-6
# By how much training and adapters must change log-probs, relative. With less, a file that is not read would go unnoticed.
CHANGE = 100 * LOGPS
# Small enough that a tiny model is divided.
SHARD = "100KB"
HERE = pathlib.Path(__file__).parent
# Mixtures whose experts PEFT adapts by the names that they had before transformers 5, and others.
GATED = ["gate_proj", "up_proj", "down_proj"]
EXPERTS = {"mixtral": ["w1", "w2", "w3"], "qwen3_moe": GATED, "glm4_moe": GATED}
STACKED = ("gpt_oss", "qwen3_5_moe_text")


class Family:
    """One model, what Collimate makes of it, and the checks on it."""

    def __init__(self, name, base, program, folder):
        self.name, self.base, self.program, self.folder = name, base, program, folder
        folder.mkdir(parents=True)
        self.data = folder / "rows.jsonl"
        rows.write(self.data)
        self.largest = 0.0

    @functools.cached_property
    def base_logps(self):
        return _flat(self.score(self.base))

    @functools.cached_property
    def adapter(self):
        return self.program.train(self.base, self.data, self.folder / "adapter", use_peft="true", lora_r=4)

    @functools.cached_property
    def merged(self):
        return self.merge(self.adapter, "merged", "--max-shard-size", SHARD)

    @property
    def targets(self):
        linear = {"phi3": ["qkv_proj", "down_proj"], "mixtral": ["q_proj", "v_proj", "o_proj"]}
        linear |= {name: linear["mixtral"] for name in ("qwen3_moe", "glm4_moe", "gpt_oss")}
        return linear.get(self.name, ["q_proj", "v_proj", "up_proj", "down_proj"])

    @functools.cached_property
    def peft_adapter(self):
        reference.make_adapter(self.base, self.folder / "peft", self.targets)
        return self.folder / "peft"

    def other_adapters(self):
        """Settings of adapters of other kinds, by PEFT's names."""
        first, *_, last = self.targets
        # The first layers of qwen3_5 have no attention.
        layer = 1 if self.name.startswith("qwen3_5") else 0
        return {
            "dora": {"target_modules": self.targets, "use_dora": True},
            "patterns": {
                "target_modules": self.targets,
                "exclude_modules": rf".*\.0\..*\.{last}",
                "rank_pattern": {rf"layers\.{layer}\.\w+\.{first}": 2},
                "alpha_pattern": {first: 7},
            },
            "layers": {"target_modules": self.targets, "layers_to_transform": [1], "layers_pattern": ["layers"]},
            "head": {"target_modules": [first, "lm_head"]},
            "copies": {"target_modules": [first], "modules_to_save": ["lm_head", "embed_tokens"]},
        } | self.adapters_of_experts()

    def adapters_of_experts(self):
        """Of experts by their old names, and of the parameters that transformers holds them in; of nothing else by these names."""
        first = self.targets[0]
        by_name = {"target_modules": [first, *EXPERTS[self.name]]} if self.name in EXPERTS else None
        parameters = {"target_modules": [first], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
        one = {"target_modules": [first], "target_parameters": ["down_proj"], "rank_pattern": {r".*\.down_proj": 2}}
        everything = {"target_modules": "all-linear"}
        kinds = {"experts": by_name, "parameters": parameters, "parameter": one, "all": everything}
        return {kind: settings for kind, settings in kinds.items() if settings and self.name in (*EXPERTS, *STACKED)}

    @functools.cached_property
    def full(self):
        return self.program.train(self.base, self.data, self.folder / "full", max_shard_size=SHARD)

    def merge(self, adapter, name, *options):
        output = self.folder / name
        self.program.run("merge", "--model", self.base, "--adapter", adapter, "--output", output, *options)
        return output

    def score(self, model, adapter=None):
        return self.program.score(self.data, self.folder / "scores.jsonl", model, adapter)

    def agrees(self, model, folder, adapter=None):
        """The model's log-probs equal Collimate's for the folder, and differ from the base model's."""
        scored = self.score(folder, adapter)
        expected, found = _flat(scored), reference.logps(model, scored)
        if _apart(expected, self.base_logps) < CHANGE:
            raise Different("the log-probs are those of the base model")
        apart = _apart(found, expected)
        self.largest = max(self.largest, apart)
        if not apart <= LOGPS:
            raise Different(f"log-probs are {apart:.1e} of them apart, more than {LOGPS}")
        return f"{len(found)} responses, largest relative difference {apart:.1e}"

    def adapter_in_peft(self):
        return self.agrees(reference.load_adapter(self.base, self.adapter), self.base, self.adapter)

    def merged_in_transformers(self):
        return f"{self.agrees(reference.load(self.merged), self.merged)}, {_shards(self.merged)} shards"

    def merged_in_bfloat16(self):
        folder = self.merge(self.adapter, "merged16", "--dtype", "bfloat16", "--max-shard-size", SHARD)
        return f"{self.agrees(reference.load(folder), folder)}, {_shards(folder)} shards of {_stored(folder)}"

    def merge_as_peft(self):
        return self.same_weights(self.adapter, self.merged)

    def full_in_transformers(self):
        return f"{self.agrees(reference.load(self.full), self.full)}, {_shards(self.full)} shards"

    def full_in_bfloat16(self):
        folder = self.folder / "full16"
        self.program.train(self.base, self.data, folder, max_shard_size=SHARD, torch_dtype="bfloat16")
        return f"{self.agrees(reference.load(folder), folder)}, {_shards(folder)} shards of {_stored(folder)}"

    def pefts_adapter_scored(self):
        return self.agrees(reference.load_adapter(self.base, self.peft_adapter), self.base, self.peft_adapter)

    def pefts_adapter_merged(self):
        return self.same_weights(self.peft_adapter, self.merge(self.peft_adapter, "peft_merged"))

    def pefts_adapter_trained_on(self):
        keys = {"adapter": self.peft_adapter, "lora_r": 3, "lora_alpha": 5}
        trained = self.program.train(self.base, self.data, self.folder / "trained_on", **keys)
        before, after = (_flat(self.score(self.base, adapter)) for adapter in (self.peft_adapter, trained))
        if _apart(after, before) < CHANGE:
            raise Different("training changed nothing")
        return self.agrees(reference.load_adapter(self.base, trained), self.base, trained)

    def other_adapters_in_peft(self):
        """Adapters of other kinds, trained here."""
        for kind, settings in self.other_adapters().items():
            names = {"use_dora": "use_dora"}
            keys = {names.get(name, f"lora_{name}"): json.dumps(value) for name, value in settings.items()}
            folder = self.folder / f"other_{kind}"
            # The scale of embeddings and heads is not that of the other matrices.
            self.program.train(self.base, self.data, folder, use_peft="true", lora_r=4, lora_dropout=0, **keys)
            self.agrees(reference.load_adapter(self.base, folder), self.base, folder)
        return ", ".join(self.other_adapters())

    def pefts_other_adapters(self):
        """Adapters of other kinds, made by PEFT: scored, merged, and trained on."""
        for kind, settings in self.other_adapters().items():
            folder = self.folder / f"peft_{kind}"
            reference.make_adapter(self.base, folder, **settings)
            self.agrees(reference.load_adapter(self.base, folder), self.base, folder)
            merged = self.merge(folder, f"peft_merged_{kind}")
            self.agrees(reference.load(merged), merged)
            trained = self.program.train(self.base, self.data, self.folder / f"trained_{kind}", adapter=folder)
            self.agrees(reference.load_adapter(self.base, trained), self.base, trained)
        return ", ".join(self.other_adapters())

    def same_weights(self, adapter, merged):
        apart = reference.weights_apart(reference.load_adapter(self.base, adapter).merge_and_unload(), merged)
        if not apart <= WEIGHTS:
            raise Different(f"weights are {apart:.1e} apart, more than {WEIGHTS}")
        return f"largest absolute difference of weights {apart:.1e}"

    def token_ids(self):
        scored = self.score(self.base)
        count, kinds = 0, set()
        for folder in (self.adapter, self.merged, self.full):
            tokenizer, kind = reference.tokenizer_of(folder)
            kinds.add(kind)
            for row, score in zip(rows.groups(), scored, strict=True):
                found = score["prompt_ids"], [response["response_ids"] for response in score["responses"]]
                expected = reference.token_ids(tokenizer, row)
                if found != expected:
                    raise Different(f"{folder.name}: {found} for {row}, where transformers gives {expected}")
                count += len(found[0]) + sum(map(len, found[1]))
        return f"{count} ids by {' and '.join(sorted(kinds))}"

    def gguf(self):
        files, merged = {}, self._rotated_as_llama_cpp()
        with_adapter = ["--model", self.base, "--adapter", self.adapter]
        for outtype, source in {
            "f32": ["--model", merged],
            "f16": ["--model", merged],
            "q8_0": with_adapter if merged == self.merged else ["--model", merged],
            "q4_0": ["--model", merged],
        }.items():
            files[outtype] = self.folder / f"{outtype}.gguf"
            self.program.run("export", *source, "--outtype", outtype, "--output", files[outtype])
            _check("gguf_check.py", outtype, files[outtype], self.merged)
        told = _check("llama_cpp_check.py", merged, *files.values()).splitlines()
        apart = next(line.split(" at most ")[1] for line in told if "f32.gguf" in line)
        return f"{', '.join(files)}; f32 in llama.cpp: log-probs at most {apart}"

    def _rotated_as_llama_cpp(self):
        """The merged model. llama.cpp leaves every fourth layer of smollm3 unrotated and no other, so a model that
        leaves out others is refused, and its weights are checked under a configuration that is not."""
        config = json.loads((self.merged / "config.json").read_text())
        layers = config.get("no_rope_layers")
        wanted = [int((layer + 1) % 4 != 0) for layer in range(config["num_hidden_layers"])]
        if layers in (None, [], wanted):
            return self.merged
        folder = self.folder / "rotated"
        shutil.copytree(self.merged, folder)
        (folder / "config.json").write_text(json.dumps(config | {"no_rope_layers": wanted}))
        return folder

    def checks(self):
        return {
            "adapter trained here, in PEFT": self.adapter_in_peft,
            "adapter trained here, merged by both": self.merge_as_peft,
            "merged model, in transformers": self.merged_in_transformers,
            "merged model in bfloat16, in transformers": self.merged_in_bfloat16,
            "model trained whole, in transformers": self.full_in_transformers,
            "model trained whole in bfloat16, in transformers": self.full_in_bfloat16,
            "adapter made by PEFT, here": self.pefts_adapter_scored,
            "adapter made by PEFT, merged by both": self.pefts_adapter_merged,
            "adapter made by PEFT, trained on here, in PEFT": self.pefts_adapter_trained_on,
            "other adapters trained here, in PEFT": self.other_adapters_in_peft,
            "other adapters made by PEFT, here, merged and trained on": self.pefts_other_adapters,
            "tokenizer and chat template, in transformers": self.token_ids,
        }


class Nested(Family):
    """A text model inside an image-and-text one, whose tower must stay as it is."""

    @property
    def targets(self):
        return r".*language_model.*\.(q_proj|v_proj|up_proj|down_proj)"

    def full_keeps_the_tower(self):
        before, after = (reference.load(folder).state_dict() for folder in (self.base, self.full))
        moved = {name for name in before if not before[name].equal(after[name])}
        others = {name for name in moved if "language_model" not in name and name != "lm_head.weight"}
        if before.keys() != after.keys() or others or not moved:
            raise Different(f"{sorted(others)} of {len(moved)} tensors changed")
        return f"{len(before) - len(moved)} tensors as they were"

    def checks(self):
        left_out = ("other adapters", "tokenizer", "in bfloat16")
        checks = {what: check for what, check in super().checks().items() if not any(part in what for part in left_out)}
        return checks | {"tower beside a model trained whole": self.full_keeps_the_tower}


def _check(script, *arguments):
    """Runs a check in a process of its own, since llama.cpp may crash, and returns its output."""
    command = [sys.executable, HERE / script, *arguments]
    check = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if check.returncode != 0:
        raise Different(f"{script}: {' '.join((check.stdout or check.stderr).split())[-600:]}")
    return check.stdout


def _flat(scored):
    return [response["logps"] for row in scored for response in row["responses"]]


def _apart(found, expected):
    """The largest relative difference; NaN if any is NaN."""
    return max((abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True)), key=lambda x: (x != x, x))


def _shards(folder):
    count = len(list(folder.glob("model-*.safetensors")))
    if count < 2 or not (folder / "model.safetensors.index.json").is_file():
        raise Different(f"{folder.name} is not divided into shards")
    return count


def _stored(folder):
    """The dtype of the folder's weights, which its configuration must name too."""
    kinds = reference.stored_dtypes(folder)
    if kinds != {"bfloat16"}:
        raise Different(f"{folder.name} holds {sorted(kinds)}")
    return "bfloat16"


# Families that are not exported.
WITHOUT_GGUF = ("qwen3_5_text", "qwen3_5_moe_text")


def without_gguf(program):
    """Why exported GGUF files cannot be checked, if they cannot."""
    if not program.has("export"):
        return "the program has no verb `export`"
    missing = [package for package in ("gguf", "xllamacpp") if not importlib.util.find_spec(package)]
    return f"not installed: {', '.join(missing)}" if missing else None


def tokenizers_in_llama_cpp(program, folder):
    """Tokens of many texts by tokenizers of every kind that can be exported."""
    folder.mkdir(parents=True, exist_ok=True)
    told = _check("llama_cpp_tokenizers.py", program.path, folder).splitlines()
    return f"{sum(line.startswith('ok') for line in told)} kinds of tokenizers"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="path of collimate")
    parser.add_argument("folder", type=pathlib.Path, help="folder to work in, new or empty")
    parser.add_argument("--models", type=pathlib.Path, help="folder of models by name [default: the golden ones]")
    parser.add_argument("--only", default=",".join(golden_models.families()), help="names, with commas between")
    options = parser.parse_args()
    if options.models and not options.models.is_dir():
        parser.error(f"--models {options.models} is no folder")
    program, began = Program(options.program.resolve()), time.monotonic()
    reason = without_gguf(program)
    num_checks, num_failed, largest = 0, 0, {}
    for name in options.only.split(","):
        if name not in golden_models.families():
            parser.error(f"no model {name}; there are {', '.join(golden_models.families())}")
        folder = options.folder.resolve() / name
        family = Family(name, base_model(name, options.models, folder / "base"), program, folder / "work")
        checks = family.checks() | ({} if reason or name in WITHOUT_GGUF else {"GGUF files": family.gguf})
        num_checks += len(checks)
        num_failed += sum(not passes(name, what, check) for what, check in checks.items())
        largest[name] = family.largest
    for name in nested_models.TEXTS:
        folder = options.folder.resolve() / name
        family = Nested(name, nested_models.make(name, folder / "base"), program, folder / "work")
        num_checks += len(family.checks())
        num_failed += sum(not passes(name, what, check) for what, check in family.checks().items())
        largest[name] = family.largest
    if not reason:
        num_checks += 1
        check = functools.partial(tokenizers_in_llama_cpp, program, options.folder.resolve() / "tokenizers")
        num_failed += not passes("GGUF", "tokens by llama.cpp", check)
    missing = quantized_trips.without_bitsandbytes()
    for name, what, check in () if missing else quantized_trips.all_checks(program, options.folder.resolve() / "quantized"):
        num_checks += 1
        num_failed += not passes(name, what, check)
    for name, what, check in vision_trips.all_checks(program, options.folder.resolve() / "vision"):
        num_checks += 1
        num_failed += not passes(name, what, check)
    for name, apart in largest.items():
        print(f"largest relative difference of log-probs, {name}: {apart:.1e}")
    if reason:
        print(f"NOT RUN: checks of GGUF files ({reason}).")
    if missing:
        print(f"NOT RUN: checks of quantized bases ({missing}).")
    outcome = f"{num_failed} of {num_checks} checks failed" if num_failed else f"All {num_checks} checks passed"
    print(f"{outcome} in {time.monotonic() - began:.0f} s.")
    return 1 if num_failed else 0


def base_model(name, models, folder):
    """The model of this name in a folder of models, or else the golden one, unpacked here."""
    found = models and (models / name).resolve()
    if not (found and found.is_dir()):
        golden_models.unpack_family(name, folder)
        found = folder / "models" / name
    return found


def passes(name, what, check):
    """Runs a check and prints its line; any exception counts as its failure."""
    try:
        verdict, detail = "ok", check()
    except Exception as error:
        verdict, detail = "FAILED", f"{type(error).__name__}: {error}"
    print(f"{verdict:<7} {name:<8} {what}: {detail}", flush=True)
    return verdict == "ok"


if __name__ == "__main__":
    sys.exit(main())
