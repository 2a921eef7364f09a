"""PyTorch's side of a benchmark: the published NCA recipe, one step for each `step` on standard input.

Every response stands with a copy of its prompt, padded to the longest; policy and reference pass in every step; all
logits are in float32. Reads the tokens from the settings, so that they are those of the other side. Prints a line of JSON
when loaded, one for each step, and one at `quit`.
"""

import json
import os
import resource
import sys
import time
from contextlib import contextmanager, nullcontext

settings = json.load(open(sys.argv[1]))
os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
os.environ["HF_HUB_OFFLINE"] = "1"
began = time.perf_counter()

import peft  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import transformers  # noqa: E402

IGNORED = -100
DEVICE = torch.device(settings["device"])


def load_model():
    # The published recipe: bf16, and sdpa as transformers' own choice of attention.
    dtype = getattr(torch, settings["dtype"])
    model = transformers.AutoModelForCausalLM.from_pretrained(settings["model"], dtype=dtype, attn_implementation="sdpa")
    return model.to(DEVICE)


def padded(groups):
    """Token ids, mask and labels of every response with its prompt, [B·K, T]."""
    pairs = [(group["prompt"], response) for group in groups for response in group["responses"]]
    longest = max(len(prompt) + len(response) for prompt, response in pairs)

    def rows(row, fill):
        lists = [row(prompt, response) for prompt, response in pairs]
        return torch.tensor([values + [fill] * (longest - len(values)) for values in lists], device=DEVICE)

    ids = rows(lambda prompt, response: prompt + response, settings["pad_id"])
    mask = rows(lambda prompt, response: [1] * (len(prompt) + len(response)), 0)
    labels = rows(lambda prompt, response: [IGNORED] * len(prompt) + response, IGNORED)
    return ids, mask, labels


def sequence_logps(model, ids, mask, labels):
    """Log-probs of the responses, [B·K], in nats."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    targets = labels[:, 1:].clone()
    real = targets != IGNORED
    targets[~real] = 0
    logps = torch.gather(logits.log_softmax(-1), dim=2, index=targets.unsqueeze(2)).squeeze(2)
    return (logps * real).sum(-1)


def nca_loss(policy, reference, rewards):
    """Mean over prompts; all are [B][K], arXiv 2402.05369."""
    losses = []
    for log_policy, log_reference, reward in zip(policy, reference, rewards):
        implicit = settings["beta"] * (log_policy - log_reference)
        weights = torch.softmax(torch.tensor(reward, device=DEVICE) / settings["alpha"], dim=0)
        losses.append(-(weights * F.logsigmoid(implicit)).sum() - F.logsigmoid(-implicit).mean())
    return torch.stack(losses).mean()


def step(model, reference_pass, optimizer, groups):
    """One optimizer step; returns its figures."""
    counts = [len(group["responses"]) for group in groups]
    batch = padded(groups)
    with torch.no_grad(), reference_pass() as reference:
        reference_logps = sequence_logps(reference, *batch)
    policy_logps = sequence_logps(model, *batch)
    rewards = [group["rewards"] for group in groups]
    loss = nca_loss(policy_logps.split(counts), reference_logps.split(counts), rewards)
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grad_norm = torch.nn.utils.clip_grad_norm_(trained, settings["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": loss.item(), "grad_norm": grad_norm.item(), "tokens": batch[0].numel()}


def peak_bytes():
    try:
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(row):
    print(json.dumps(row), flush=True)


def main():
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    model = load_model()
    if settings["adapter"]:
        model = peft.PeftModel.from_pretrained(model, settings["adapter"], is_trainable=True)

        @contextmanager
        def reference_pass():
            with model.disable_adapter():  # the same weights
                yield model

    else:
        frozen = load_model().requires_grad_(False)

        def reference_pass():
            return nullcontext(frozen)

    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # transformers' default optimizer.
    optimizer = torch.optim.AdamW(
        trained, lr=settings["learning_rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True
    )
    say({
        "ready_seconds": time.perf_counter() - began,
        "versions": {
            "python": sys.version.split()[0], "torch": torch.__version__,
            "transformers": transformers.__version__, "peft": peft.__version__,
        },
    })
    size, done = settings["groups_per_step"], 0
    for line in sys.stdin:
        if line.strip() != "step":
            break
        start = time.perf_counter()
        row = step(model, reference_pass, optimizer, settings["groups"][done:done + size])
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        done += size
        say({"seconds": time.perf_counter() - start, **row})
    say({"peak_rss_bytes": peak_bytes()})


if __name__ == "__main__":
    main()
