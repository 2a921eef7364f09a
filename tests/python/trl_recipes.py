"""Published recipes, with a small model and small data in place of theirs, train here as they do with TRL.

For each recipe TRL's own trainer and Collimate take six steps, and the loss, the gradient norm and the learning rate of every
step must agree. One line a recipe; the exit code is 1 if any failed. `cargo xtask python-check` runs it.

Keys and values are those of the alignment handbook (github.com/huggingface/alignment-handbook, recipes/*/dpo) and of SimPO
(github.com/princeton-nlp/SimPO, training_configs), but for what a laptop without a GPU and a network cannot do: the names of
models and data, flash attention, and uploads. The learning rate is a thousand times the recipe's, or the weights would stay as
they are for six steps.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import golden_models  # noqa: E402
import yaml  # noqa: E402
from program import Program  # noqa: E402

STEPS = 6
# Of the loss, absolute, and of the gradient norm, relative.
LARGEST = 1e-4
FASTER = 1000
NUM_PAIRS = 64
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# What nearly every recipe of the handbook says.
HANDBOOK = {
    "bf16": True,
    "do_eval": True,
    "evaluation_strategy": "steps",
    "eval_steps": 100,
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "log_level": "info",
    "logging_steps": 10,
    "lr_scheduler_type": "cosine",
    "learning_rate": 5.0e-7,
    "max_length": 1024,
    "max_prompt_length": 512,
    "num_train_epochs": 1,
    "optim": "adamw_torch",
    "push_to_hub": True,
    "save_strategy": "steps",
    "save_steps": 100,
    "save_total_limit": 1,
    "seed": 42,
    "warmup_ratio": 0.1,
    "dataset_mixer": {"DATA": 1.0},
    "dataset_splits": ["train_prefs", "test_prefs"],
    "preprocessing_num_workers": 12,
}
MIXTURE = {
    "dataset_mixture": {
        "datasets": [{"id": "DATA", "config": "default", "split": "train_prefs", "columns": ["chosen", "rejected"], "weight": 1.0}],
        "seed": 0,
    },
    "dataset_num_proc": 12,
    "dataset_mixer": None,
    "dataset_splits": None,
    "preprocessing_num_workers": None,
    "evaluation_strategy": None,
    "eval_strategy": "steps",
}
SIMPO = HANDBOOK | {
    "torch_dtype": None,
    "use_flash_attention_2": True,
    "beta": 2.5,
    "dataset_splits": ["train", "test"],
    "eval_steps": 400,
    "gradient_accumulation_steps": 16,
    "hub_model_id": "simpo-exps",
    "learning_rate": 1.0e-6,
    "logging_steps": 5,
    "max_length": 2048,
    "max_prompt_length": 1800,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 4,
    "push_to_hub": False,
    "save_steps": 1000000,
    "report_to": ["wandb"],
    "save_total_limit": 20,
}
BATCH_8 = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 8}
BATCH_2 = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 4}

RECIPES = {
    "zephyr-7b-beta/dpo/config_full": HANDBOOK | MIXTURE | BATCH_8 | {"beta": 0.01, "gradient_accumulation_steps": 2},
    "zephyr-7b-beta/dpo/config_qlora": HANDBOOK
    | {
        "torch_dtype": "float16",
        "use_peft": True,
        "load_in_4bit": True,
        "lora_r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "lora_target_modules": LINEAR,
        "beta": 0.01,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5.0e-6,
        "optim": "paged_adamw_32bit",
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8,
    },
    "zephyr-7b-gemma/dpo/config_full": HANDBOOK
    | BATCH_2
    | {"torch_dtype": "bfloat16", "beta": 0.05, "gradient_accumulation_steps": 8, "num_train_epochs": 2, "save_strategy": "no"},
    "starchat2-15b/dpo/config_v0.1": HANDBOOK
    | MIXTURE
    | BATCH_2
    | {"torch_dtype": "bfloat16", "beta": 0.05, "gradient_accumulation_steps": 8, "num_train_epochs": 2, "save_strategy": "no"},
    "smollm2/dpo/config": HANDBOOK
    | MIXTURE
    | BATCH_2
    | {
        "torch_dtype": "bfloat16",
        "beta": 0.5,
        "hub_private_repo": True,
        "gradient_accumulation_steps": 8,
        "learning_rate": 1.0e-6,
        "num_train_epochs": 3,
        "save_strategy": "no",
    },
    "smollm3/dpo/apo": {
        "model_revision": "it-SFT",
        "torch_dtype": "bfloat16",
        "attn_implementation": "flash_attention_2",
        "trust_remote_code": True,
        "dataset_mixture": {"datasets": [{"id": "DATA", "config": "Preference", "split": "no_think", "weight": 1.0}]},
        "dataset_num_proc": 12,
        "bf16": True,
        "do_eval": False,
        "eval_strategy": "no",
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
        "run_name": "SmolLM3-DPO",
        "hub_strategy": "every_save",
        "learning_rate": 1.0e-06,
        "log_level": "info",
        "logging_steps": 1,
        "logging_strategy": "steps",
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "max_grad_norm": 0.2,
        "beta": 0.05,
        "loss_type": "apo_zero",
        "max_length": 24576,
        "num_train_epochs": 1,
        "overwrite_output_dir": True,
        "per_device_train_batch_size": 1,
        "push_to_hub": True,
        "padding_free": True,
        "report_to": ["wandb"],
        "save_strategy": "steps",
        "save_steps": 0.5,
        "save_total_limit": 1,
        "seed": 42,
        "use_liger_kernel": True,
        "warmup_ratio": 0.1,
    },
    # Its `optim: rmsprop` is refused; with the optimizer that the error names it is trained.
    "constitutional-ai/dpo/config_anthropic": HANDBOOK
    | {
        "torch_dtype": None,
        "beta": 0.1,
        "do_train": True,
        "eval_steps": 1000,
        "gradient_accumulation_steps": 1,
        "lr_scheduler_type": "linear",
        "num_train_epochs": 3,
        "optim": "rmsprop",
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 8,
    },
    "gpt2-nl/dpo/config_full": HANDBOOK
    | BATCH_8
    | {"model_revision": "main", "torch_dtype": "bfloat16", "beta": 0.1, "gradient_accumulation_steps": 8, "report_to": ["wandb"]},
    "pref_align_scan/dpo/config_zephyr": HANDBOOK
    | BATCH_8
    | {
        "torch_dtype": None,
        "beta": 0.01,
        "loss_type": "sigmoid",
        "gradient_accumulation_steps": 2,
        "hub_model_id": "zephyr-7b-align-scan",
        "hub_model_revision": "dpo-beta-0.01",
        "max_length": None,
        "push_to_hub_revision": True,
    },
    "pref_align_scan/dpo/config_zephyr, loss_type ipo": HANDBOOK
    | BATCH_8
    | {"beta": 0.1, "loss_type": "ipo", "gradient_accumulation_steps": 2},
    "pref_align_scan/dpo/config_zephyr, loss_type apo_down": HANDBOOK
    | BATCH_8
    | {"beta": 0.1, "loss_type": "apo_down", "gradient_accumulation_steps": 2},
    "the same, loss_type sigmoid_norm": HANDBOOK
    | BATCH_8
    | {"beta": 2.0, "loss_type": "sigmoid_norm", "gradient_accumulation_steps": 2},
    "the same, forward_kl": HANDBOOK | BATCH_8 | {"beta": 0.1, "f_divergence_type": "forward_kl"},
    "the same, js_divergence, loss_type robust": HANDBOOK
    | BATCH_8
    | {"beta": 0.5, "f_divergence_type": "js_divergence", "loss_type": "robust", "label_smoothing": 0.1},
    "the same, alpha_divergence": HANDBOOK
    | BATCH_8
    | {"beta": 0.1, "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
    "a recipe that leaves out nearly everything": {"dataset_name": "DATA", "beta": 0.01},
    "the same with an adapter": {"dataset_name": "DATA", "beta": 0.01, "use_peft": True},
    "weight decay, a schedule's arguments and full batches": {
        "dataset_name": "DATA",
        "weight_decay": 0.1,
        "lr_scheduler_type": "polynomial",
        "lr_scheduler_kwargs": {"power": 2.0},
        "warmup_steps": 0.2,
        "per_device_train_batch_size": 6,
        "dataloader_drop_last": True,
    },
    "SimPO/mistral-7b-base-simpo": SIMPO
    | {"beta": 2.0, "gamma": 1.6, "gradient_accumulation_steps": 8, "learning_rate": 3.0e-7, "max_length": 1024, "max_prompt_length": 512},
    "SimPO/llama-3-8b-instruct-simpo": SIMPO | {"beta": 2.5, "gamma_beta_ratio": 0.55},
    "SimPO/gemma-2-9b-it-simpo": SIMPO
    | {"beta": 10, "gamma_beta_ratio": 0.5, "learning_rate": 8.0e-7, "attn_implementation": "eager", "use_flash_attention_2": None},
}

# What a small run elsewhere has instead, on both sides.
HERE = {
    "max_steps": STEPS,
    "logging_steps": 1,
    "logging_strategy": "steps",
    "train_sampling_strategy": "sequential",
    "push_to_hub": False,
    "push_to_hub_revision": None,
    "report_to": "none",
    "model_revision": None,
}
# What TRL 1.16 does not have, or not on this machine; the pairs are shorter than any limit.
NOT_IN_TRL = {"max_prompt_length", "optim", "load_in_4bit", "gradient_checkpointing", "use_liger_kernel", "padding_free", "bf16"}


def pairs():
    """Questions with a right and a wrong answer of different lengths."""
    for number in range(NUM_PAIRS):
        a, b = 3 + number % 7, 11 + number
        right = f" {a} times {b} is {a * b}, so the answer is {a * b}."
        wrong = f" It is {a + b}." if number % 3 else f" {a} plus {b} is {a + b}, and nobody knows more than that about it."
        yield {"prompt": f"Question {number}: what is {a} times {b}?", "chosen": right, "rejected": wrong}


def filled(value, data):
    """A value with the file in place of `DATA`."""
    match value:
        case dict():
            return {filled(key, data): filled(inner, data) for key, inner in value.items()}
        case list():
            return [filled(inner, data) for inner in value]
        case _:
            return str(data) if value == "DATA" else value


def ours(keys, base, data, output):
    """The recipe as Collimate reads it."""
    keys = keys | HERE
    keys = {key: filled(value, data) for key, value in keys.items() if value is not None or key == "torch_dtype"}
    rate = keys.get("learning_rate", 1e-6) * FASTER
    # TRL computes in float32 here, on processors that multiply bfloat16 too.
    own = {"sample_prompts": 0, "reference_cache": False, "compute_dtype": "float32"}
    return keys | own | {"model_name_or_path": str(base), "output_dir": str(output), "learning_rate": rate}


def theirs(keys, output, config):
    """The recipe as a configuration of TRL's."""
    known = {field.name for field in dataclasses.fields(config)}
    keys = {key: value for key, value in (keys | HERE).items() if value is not None and key not in NOT_IN_TRL}
    if "warmup_ratio" in keys:
        keys["warmup_steps"] = keys.pop("warmup_ratio")
    keys["learning_rate"] = keys.get("learning_rate", 1e-6) * FASTER
    # Nothing is evaluated: the recipes' test data is not here either.
    own = {"eval_strategy": "no", "do_eval": False, "bf16": False, "use_cpu": True, "gradient_checkpointing": False}
    own |= {"save_strategy": "no", "disable_tqdm": True, "output_dir": str(output)}
    return config(**{key: value for key, value in keys.items() if key in known} | own)


def trl_rows(keys, base, adapter, output):
    """What TRL's trainer logs."""
    import datasets
    import peft
    import transformers
    import trl

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_list(list(pairs()))
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    if adapter:
        model = peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)
    beta = keys.get("beta", 0.1)
    if "gamma" in keys or "gamma_beta_ratio" in keys:
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        gamma = keys.get("gamma", keys.get("gamma_beta_ratio", 0.0) * beta)
        config = theirs(keys, output, CPOConfig)
        config.loss_type, config.simpo_gamma, config.cpo_alpha = "simpo", gamma, 0.0
        trainer = CPOTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    else:
        config = theirs(keys, output, trl.DPOConfig)
        trainer = trl.DPOTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return [row for row in trainer.state.log_history if "grad_norm" in row]


def our_rows(program, keys, folder, name, **changed):
    """What Collimate writes into `metrics.jsonl`."""
    recipe = folder / f"{name}.yaml"
    # TRL trains over the plain base here; quantized_trips.py compares bases in four bits.
    keys = {key: value for key, value in keys.items() if key != "load_in_4bit"}
    recipe.write_text(yaml.safe_dump(keys | {"output_dir": str(folder / name)} | changed), encoding="utf-8")
    program.run("train", "--config", recipe, "--quiet")
    lines = (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if "grad_norm" in row]


def compare(program, base, keys, folder):
    """Both take their steps; returns the largest differences of loss and gradient norm."""
    folder.mkdir(parents=True)
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs()), encoding="utf-8")
    recipe = ours(keys, base, data, folder / "run")
    if keys.get("optim") == "rmsprop":
        refused = refusal(program, recipe, folder)
        if "optim: adamw_torch" not in refused:
            raise AssertionError(f"rmsprop is not refused with its remedy: {refused}")
        recipe["optim"] = "adamw_torch"
    adapter = None
    if keys.get("use_peft"):
        # A step of no length: the adapter that training starts from.
        adapter = folder / "start"
        still = {"learning_rate": 0.0, "max_steps": 1, "lr_scheduler_type": "constant", "torch_dtype": "float32"}
        our_rows(program, recipe, folder, "start", **still)
    found = our_rows(program, recipe, folder, "run")
    expected = trl_rows(keys, base, adapter, folder / "trl")
    if len(found) != STEPS or len(expected) != STEPS:
        raise AssertionError(f"{len(found)} and {len(expected)} steps instead of {STEPS}")
    apart = [0.0, 0.0]
    for step, (mine, other) in enumerate(zip(found, expected, strict=True), 1):
        loss = abs(mine["loss"] - other["loss"])
        norm = abs(mine["grad_norm"] - other["grad_norm"]) / other["grad_norm"]
        rate = abs(mine["learning_rate"] - other["learning_rate"])
        if not (loss <= LARGEST and norm <= LARGEST and rate <= 1e-9):
            shown = [{key: row[key] for key in ("loss", "grad_norm", "learning_rate")} for row in (mine, other)]
            raise AssertionError(f"step {step}: {shown[0]} here, {shown[1]} with TRL")
        apart = [max(apart[0], loss), max(apart[1], norm)]
    return apart


def refusal(program, keys, folder):
    """What Collimate says to a recipe that it refuses."""
    recipe = folder / "refused.yaml"
    recipe.write_text(yaml.safe_dump(keys), encoding="utf-8")
    try:
        program.run("train", recipe, "--quiet")
    except RuntimeError as error:
        return str(error)
    return "nothing"


def same(value, expected):
    """Whether a value of a resolved recipe is TRL's; PyYAML takes `1e-6` for text and `no` for false."""
    match expected:
        case bool():
            return value is expected
        case int() | float():
            return float(value) == expected
        case "no":
            return value in (False, "no")
        case _:
            return value == expected


def defaults(program, base, folder):
    """Every default of TRL's that has a key here, in the recipe that a run writes."""
    import transformers  # noqa: F401
    import trl

    folder.mkdir(parents=True)
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs()), encoding="utf-8")
    keys = {"model_name_or_path": str(base), "dataset_name": str(data), "max_steps": 1, "sample_prompts": 0}
    keys["reference_cache"] = False
    our_rows(program, keys, folder, "run")
    resolved = yaml.safe_load((folder / "run" / "recipe.yaml").read_text(encoding="utf-8"))
    config, model = trl.DPOConfig(output_dir=str(folder / "trl"), bf16=False), trl.ModelConfig()
    names = {"torch_dtype": model.dtype, "objective": {"name": "dpo"}} if config.loss_type == ["sigmoid"] else {}
    different = []
    for key, value in resolved.items():
        if key in ("max_steps", "output_dir", "gradient_checkpointing", "lora_target_modules", "eval_steps", "model_name_or_path"):
            continue
        for source in (names, vars(config), vars(model)):
            # TRL's null is no limit, no value, or the model's own.
            expected = source.get(key)
            if key in source and expected is not None:
                expected = getattr(expected, "value", expected)
                if not same(value, expected):
                    different.append(f"{key} is {value} here, {expected} in TRL")
    if different or model.lora_target_modules is not None or config.warmup_steps != 0 or resolved["warmup_ratio"] != 0:
        raise AssertionError("; ".join(different) or "other defaults of TRL's changed")
    return len(resolved)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="path of collimate")
    parser.add_argument("folder", type=pathlib.Path, help="folder to work in, new or empty")
    parser.add_argument("--only", default="", help="a part of the recipes' names")
    options = parser.parse_args()
    program, began, num_failed = Program(options.program.resolve()), time.monotonic(), 0
    folder = options.folder.resolve() / "trl"
    golden_models.unpack_family("llama", folder / "base")
    base = folder / "base" / "models" / "llama"
    chosen = {name: keys for name, keys in RECIPES.items() if options.only in name}
    checks = {"TRL's defaults": lambda: f"{defaults(program, base, folder / 'defaults')} keys"} if not options.only else {}
    for number, (name, keys) in enumerate(chosen.items()):
        checks[name] = lambda keys=keys, number=number: "loss {:.1e} apart, gradient norm {:.1e}".format(
            *compare(program, base, keys, folder / f"recipe-{number}")
        )
    for name, check in checks.items():
        try:
            verdict, detail = "ok", check()
        except Exception as error:
            verdict, detail, num_failed = "FAILED", f"{type(error).__name__}: {error}", num_failed + 1
        print(f"{verdict:<7} {name}: {detail}", flush=True)
    outcome = f"{num_failed} of {len(checks)} recipes failed" if num_failed else f"All {len(checks)} recipes agree with TRL"
    print(f"{outcome} in {time.monotonic() - began:.0f} s.")
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
