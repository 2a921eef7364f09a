"""Makes the golden values of tests/golden with PyTorch, transformers and PEFT.

    python tests/python/make_golden.py [FAMILY …]        # every family, and chat.json and objectives.json, by default

A family is a folder of tests/golden. Written by hand are its inputs:

  golden.json                        the tokenizer, the seed of its weights, and "dtype": the precision of PyTorch's values
  model/                             a Hugging Face folder without weights and tokenizer.json
  adapter/adapter_config.json        a LoRA adapter without weights
  adapters/KIND/adapter_config.json  others, with case.json where the vocabulary is resized
  sharded/config.json                if the model is to be there as bfloat16 shards too
  train/RUN/case.json                hyper-parameters of a run
  train/RUN/initial_adapter/adapter_config.json    where the run trains an adapter

and this script writes the rest:

  *.safetensors.json                 lists of tensors, from which weights are drawn (golden_models.py)
  logps.json                         token ids and log-probs of responses, without and with the adapter
  train/RUN/expected.jsonl           one row per step; final.json has log-probs after the last one
  train/RUN/expected_f32.jsonl       the run in float32 beside one in float64: how far rounding alone takes it
  SHA256SUMS                         checksums of the folder, for `sha256sum -c` and a test
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import tempfile

import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors import safe_open

import golden_models
from golden_models import GOLDEN, LIST
from golden_objectives import OBJECTIVES, objective_vectors

# Whether the ids of a response continue those of its prompt. Without it the response is tokenized by itself, which puts a
# space before it where the tokenizer puts one before a text.
CONTINUES_PROMPT = True
DTYPES = {"float32": torch.float32, "float64": torch.float64}
NUM_GROUPS_SCORED = 3
NUM_GROUPS_AT_THE_END = 4


def write_json(path, value, **layout):
    path.write_text(json.dumps(value, ensure_ascii=False, **layout) + "\n", encoding="utf-8")


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- weights ----------------------------------------------------------------------------------------------------------


def write_list(path, seed, dtype, tensors):
    """Writes a list of tensors, one per line: name, shape, mean and standard deviation."""
    listed = {"seed": seed, "dtype": dtype, "tensors": tensors}
    digest = hashlib.sha256(golden_models.file_of(listed)).hexdigest()
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(tensor)}" for name, tensor in tensors.items())
    head = f'"seed": {seed}, "dtype": "{dtype}", "sha256": "{digest}"'
    path.write_text(f'{{{head}, "tensors": {{\n{lines}\n}}}}\n')


def tensors_of(file, distribution):
    """Names and shapes of a file's tensors, each with the mean and standard deviation that `distribution` gives it."""
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in sorted(opened.keys())}
    return {name: [list(tensor.shape), *distribution(name, tensor)] for name, tensor in tensors.items()}


def model_distribution(initializer_range):
    """Matrices as initialized; norms and biases away from the ones and zeros at which a wrong one would not be seen."""

    def distribution(name, tensor):
        if name.endswith("A_log"):
            # Decays so slow that responses read what their prompt left.
            return -2.0, 1.0
        return (float(round(tensor.float().mean().item())), 0.1) if tensor.dim() == 1 else (0.0, initializer_range)

    return distribution


def adapter_distribution(std_of_b):
    """A as PEFT draws it, B as given: zero at the start of training."""
    return lambda name, tensor: (0.0, std_of_b if "lora_B" in name else round((3 * tensor.shape[1]) ** -0.5, 4))


def list_model(family, seed, scratch):
    config = transformers.AutoConfig.from_pretrained(family / "model")
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    made.save_pretrained(scratch / "made")
    tensors = tensors_of(scratch / "made" / "model.safetensors", model_distribution(config.initializer_range))
    write_list(family / "model" / f"model{LIST}", seed, "float32", tensors)
    golden_models.unpack_folder(family / "model", scratch / "drawn")
    if (family / "sharded").is_dir():
        list_shards(family / "sharded", seed, tensors, scratch)


def list_shards(folder, seed, tensors, scratch):
    """The shards that transformers writes, as lists; they must hold what is drawn for them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(scratch / "drawn", dtype=torch.bfloat16)
    model.save_pretrained(scratch / "sharded", max_shard_size="100KB")
    index = scratch / "sharded" / "model.safetensors.index.json"
    shutil.copyfile(index, folder / index.name)
    shard_of = json.loads(index.read_text())["weight_map"]
    for shard in sorted(set(shard_of.values())):
        own = {name: tensor for name, tensor in tensors.items() if shard_of[name] == shard}
        write_list(folder / f"{shard}.json", seed, "bfloat16", own)
        drawn = scratch / shard
        drawn.write_bytes(golden_models.file_of(json.loads((folder / f"{shard}.json").read_text())))
        with safe_open(scratch / "sharded" / shard, "pt") as theirs, safe_open(drawn, "pt") as ours:
            assert set(theirs.keys()) == set(ours.keys())
            assert all(torch.equal(theirs.get_tensor(name), ours.get_tensor(name)) for name in ours.keys())


def list_adapter(folder, model, seed, std_of_b, scratch):
    made = peft.get_peft_model(load(model, torch.float32), peft.PeftConfig.from_pretrained(folder))
    made.save_pretrained(scratch / "adapter")
    file = scratch / "adapter" / "adapter_model.safetensors"
    write_list(folder / f"adapter_model{LIST}", seed, "float32", tensors_of(file, adapter_distribution(std_of_b)))


def other_distribution(model):
    """For adapters of every kind: magnitudes about as long as the rows they are for, copies as the model's tensors."""
    matrix, whole = adapter_distribution(0.05), model_distribution(model.config.initializer_range)
    length = model.config.initializer_range * model.config.hidden_size**0.5

    def distribution(name, tensor):
        if "lora_magnitude_vector" in name:
            return round(length, 4), round(length / 5, 4)
        if "lora_embedding" in name:
            return 0.0, 0.1
        return matrix(name, tensor) if "lora_" in name else whole(name, tensor)

    return distribution


def list_other_adapter(folder, model, seed, scratch):
    """An adapter of another kind; `case.json` may resize the vocabulary first."""
    base = resized(load(model, torch.float32), folder)
    made = peft.get_peft_model(base, peft.PeftConfig.from_pretrained(folder))
    shutil.rmtree(scratch / "adapter", ignore_errors=True)
    made.save_pretrained(scratch / "adapter", save_embedding_layers=(folder / "case.json").is_file() or "auto")
    tensors = tensors_of(scratch / "adapter" / "adapter_model.safetensors", other_distribution(made))
    write_list(folder / f"adapter_model{LIST}", seed, "float32", tensors)


def resized(model, folder):
    case = folder / "case.json"
    if case.is_file():
        model.resize_token_embeddings(json.loads(case.read_text())["vocab_size"], mean_resizing=False)
    return model


def adapter_values(model, folder, rows, dtype):
    """Log-probs of all responses, and of each trained tensor's gradient of `sum(c * logp)` its length and a projection."""
    changed = adapted(resized(load(model, dtype), folder), folder, dtype, trainable=True).eval()
    logps, seen = [], {}
    objective = 0.0
    for row in rows:
        number = seen[row["prompt"]] = seen.get(row["prompt"], -1) + 1
        logp = token_logps(changed, row["prompt_ids"], row["response_ids"]).sum()
        objective = objective + (0.3 - 0.2 * number) * logp
        logps.append(logp.item())
    objective.backward()
    gradients = {}
    for name, parameter in changed.named_parameters():
        if parameter.requires_grad:
            gradient = parameter.grad.double().flatten()
            wave = torch.sin(torch.arange(1, len(gradient) + 1, dtype=torch.float64))
            name = name.replace(".default", "").replace(".modules_to_save", "").replace("_vector.weight", "_vector")
            gradients[name] = [gradient.norm().item(), (gradient * wave).sum().item()]
    return {"logps": logps, "gradients": gradients}


# --- models, tokens, log-probs ----------------------------------------------------------------------------------------


def load(folder, dtype):
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
    )
    assert not any(loading[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys")), loading
    return model.eval()


def adapted(model, adapter, dtype, trainable=False):
    return peft.PeftModel.from_pretrained(model, adapter, is_trainable=trainable).to(dtype)


def encode(tokenizer, prompt, response):
    """Ids of a prompt with the tokenizer's special tokens, and of a response with EOS."""
    prompt_ids = tokenizer(prompt)["input_ids"]
    return prompt_ids, response_ids(tokenizer, prompt, response) + [tokenizer.eos_token_id]


def response_ids(tokenizer, prompt, response):
    if not CONTINUES_PROMPT:
        return tokenizer(response, add_special_tokens=False)["input_ids"]
    # Where the prompt's tokens do not end at the boundary, the response is taken as it continues a line break.
    for before in (prompt, "\n"):
        head, joint = tokenizer(before)["input_ids"], tokenizer(before + response)["input_ids"]
        if joint[: len(head)] == head:
            return joint[len(head) :]
    raise ValueError(f"no boundary before {response!r}")


def token_logps(model, prompt_ids, response_ids):
    """Log-probs of a response's tokens, [R]; the softmax in float64."""
    logits = model(input_ids=torch.tensor([prompt_ids + response_ids]), use_cache=False).logits[0].double()
    logps = F.log_softmax(logits[len(prompt_ids) - 1 : -1], dim=-1)
    return logps.gather(1, torch.tensor(response_ids)[:, None])[:, 0]


def score_rows(model, with_adapter, tokenizer, groups):
    rows = []
    with torch.no_grad():
        for group in groups:
            for response in group["responses"]:
                prompt_ids, ids = encode(tokenizer, group["prompt"], response["content"])
                plain, changed = (token_logps(each, prompt_ids, ids) for each in (model, with_adapter))
                rows.append(
                    {
                        "prompt": group["prompt"],
                        "response": response["content"],
                        "prompt_ids": prompt_ids,
                        "response_ids": ids,
                        "token_logps": plain.tolist(),
                        "logps": plain.sum().item(),
                        "logps_with_adapter": changed.sum().item(),
                    }
                )
    return rows


# --- runs -------------------------------------------------------------------------------------------------------------


def train(folder, model, case, tokenizer, groups, dtype):
    """Rows of a run, and the log-probs of the first groups after it."""
    policy, reference = load(model, dtype), load(model, dtype)
    if case["lora"]:
        policy = adapted(policy, folder / "initial_adapter", dtype, trainable=True)
    policy.train()
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=case["learning_rate"],
        betas=tuple(case["adam_betas"]),
        eps=case["adam_epsilon"],
        weight_decay=case["weight_decay"],
    )
    schedule = transformers.get_scheduler(
        case["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=case["warmup_steps"],
        num_training_steps=case["steps"],
    )
    encoded = [[encode(tokenizer, group["prompt"], r["content"]) for r in group["responses"]] for group in groups]
    rows, position, accumulation = [], 0, case["gradient_accumulation_steps"]
    for step in range(1, case["steps"] + 1):
        optimizer.zero_grad()
        total, rewards, logps = 0.0, [], []
        for _ in range(accumulation):
            losses = []
            for _ in range(case["batch_groups"]):
                group = position % len(groups)
                position += 1
                loss, implicit, policy_logps = group_loss(case, policy, reference, groups[group], encoded[group])
                losses.append(loss)
                rewards.append(implicit)
                logps.append(policy_logps)
            loss = torch.stack(losses).mean() / accumulation
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, case["max_grad_norm"]).item()
        row = {"step": step, "loss": total, "grad_norm": norm, "learning_rate": schedule.get_last_lr()[0]}
        rows.append(row | {"implicit_rewards": rewards, "policy_logps": logps})
        optimizer.step()
        schedule.step()
    policy.eval()
    with torch.no_grad():
        final = [[token_logps(policy, *ids).sum().item() for ids in group] for group in encoded[:NUM_GROUPS_AT_THE_END]]
    return rows, final


def group_loss(case, policy, reference, group, encoded):
    """Loss of a group, its implicit rewards and its log-probs."""
    policy_logps = torch.stack([token_logps(policy, *ids).sum() for ids in encoded])
    with torch.no_grad():
        reference_logps = torch.stack([token_logps(reference, *ids).sum() for ids in encoded])
    rewards = torch.tensor([response["reward"] for response in group["responses"]]).double()
    lengths = torch.tensor([len(ids) for _, ids in encoded]).double()
    loss = OBJECTIVES[case["objective"]][0](
        policy_logps[None], reference_logps[None], rewards[None], lengths[None], **case["params"]
    )[0]
    implicit = case["params"].get("beta", 1.0) * (policy_logps - reference_logps)
    return loss, implicit.tolist(), policy_logps.tolist()


# --- families ---------------------------------------------------------------------------------------------------------


def make_family(name, groups, scratch):
    family, out = GOLDEN / name, scratch / "golden"
    settings = json.loads((family / "golden.json").read_text())
    seed, dtype = settings["seed"], DTYPES[settings.get("dtype", "float32")]
    model = out / "models" / name
    runs = sorted(path.parent for path in family.glob("train/*/case.json"))
    list_model(family, seed, scratch)
    golden_models.unpack_family(name, out)
    list_adapter(family / "adapter", model, seed + 1, 0.05, scratch)
    for i, run in enumerate(runs):
        if json.loads((run / "case.json").read_text())["lora"]:
            list_adapter(run / "initial_adapter", model, seed + 2 + i, 0.0, scratch)
    others = sorted(path.parent for path in family.glob("adapters/*/adapter_config.json"))
    for i, folder in enumerate(others):
        list_other_adapter(folder, model, 1000 * seed + i, scratch)
    golden_models.unpack_family(name, out)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(model)
    with_adapter = adapted(load(model, dtype), out / "adapters" / name, dtype).eval()
    rows = score_rows(load(model, dtype), with_adapter, tokenizer, groups[:NUM_GROUPS_SCORED])
    write_json(family / "logps.json", rows)
    for folder in others:
        values = adapter_values(model, out / "adapters" / f"{name}.{folder.name}", rows, dtype)
        write_json(folder / "expected.json", values, indent=1)
    line = f"{name}: {rows[0]['logps']:.6f}, with the adapter {rows[0]['logps_with_adapter']:.6f}"
    for run in runs:
        case, folder = json.loads((run / "case.json").read_text()), out / "train" / run.name
        steps, final = train(folder, model, case, tokenizer, groups, dtype)
        write_lines(run / "expected.jsonl", steps)
        write_json(run / "final.json", {"final_policy_logps_of_first_4_groups": final})
        line += f"; {run.name}: loss {steps[0]['loss']:.6f} to {steps[-1]['loss']:.6f}"
        if dtype == torch.float64:
            rounded, _ = train(folder, model, case, tokenizer, groups, torch.float32)
            write_lines(run / "expected_f32.jsonl", rounded)
            line += f", float32 off by {max(abs(a['loss'] / b['loss'] - 1) for a, b in zip(rounded, steps)):.0e}"
    write_sums(family)
    print(line, flush=True)


def write_sums(folder):
    """Writes checksums of a family's files, or of those in the golden folder that belong to no family."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = [file for file in files if file.name not in ("SHA256SUMS", "README.md")]
    if folder == GOLDEN:
        files = [file for file in files if not (folder / file.parts[0] / "golden.json").is_file()]
    sums = [f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()}  {file.as_posix()}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


# --- chats ------------------------------------------------------------------------------------------------------------

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'system' %}{{ '[SYS] ' + m['content'] + ' [/SYS]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
WITH_DEFAULT_SYSTEM = (
    "{%- set ns = namespace(first=true) -%}{%- for m in messages -%}{%- if ns.first and m.role != 'system' -%}"
    "{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' -}}{%- endif -%}{%- set ns.first = false -%}"
    "{%- if m.role not in ['system','user','assistant'] -%}{{- raise_exception('unknown role ' ~ m.role) -}}{%- endif -%}"
    "{{- '<|im_start|>' ~ m.role ~ '\n' ~ (m.content | trim) ~ '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
# Name, template, and a model with the tokenizer.
TEMPLATES = [
    ("chatml", CHATML, "llama"),
    ("brackets", BRACKETS, "mistral"),
    ("default_system", WITH_DEFAULT_SYSTEM, "llama"),
]
CONVERSATIONS = [
    [("user", "What is 2+2?"), ("assistant", "4")],
    [("system", "Be brief."), ("user", "Name a prime.\nJust one."), ("assistant", " 7 ")],
    [("user", "Hi <|im_end|> there"), ("assistant", "Hello — ½ ✓"), ("user", "多言語?"), ("assistant", "はい")],
]


def chats(scratch):
    """Conversations with their rendering and token ids, once whole and once without the answer."""
    made = []
    for name, template, model in TEMPLATES:
        golden_models.unpack_family(model, scratch)
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(scratch / "models" / model)
        for turns in CONVERSATIONS:
            for asks in (False, True):
                messages = [{"role": role, "content": content} for role, content in turns][: -1 if asks else None]
                text = tokenizer.apply_chat_template(
                    messages, chat_template=template, tokenize=False, add_generation_prompt=asks
                )
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                case = {"template_name": name, "template": template, "tokenizer": f"models/{model}"}
                case |= {"messages": messages, "add_generation_prompt": asks, "text": text, "ids": ids}
                made.append(case)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="folders of tests/golden [default: all, and what is common to them]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    groups = read_lines(GOLDEN / "data.jsonl")
    for name in options.families or golden_models.families():
        with tempfile.TemporaryDirectory() as scratch:
            make_family(name, groups, pathlib.Path(scratch))
    if not options.families:
        with tempfile.TemporaryDirectory() as scratch:
            write_json(GOLDEN / "chat.json", chats(pathlib.Path(scratch)), indent=1)
        write_json(GOLDEN / "objectives.json", objective_vectors(77))
        write_sums(GOLDEN)


if __name__ == "__main__":
    main()
