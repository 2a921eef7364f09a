"""What PyTorch's entrants share: settings, model, loss, optimizer, and the protocol of a process that takes steps on command."""

import json
import os
import resource
import sys
import time

settings = json.load(open(sys.argv[1]))
os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
os.environ["HF_HUB_OFFLINE"] = "1"
began = time.perf_counter()

import peft  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import transformers  # noqa: E402

torch.set_num_threads(settings["threads"])
torch.manual_seed(0)
if settings["float32_matmul_precision"] != "highest":  # PyTorch's own setting, which it warns about when it is set
    torch.set_float32_matmul_precision(settings["float32_matmul_precision"])
DEVICE = torch.device(settings["device"])


def load_model():
    # The published recipe: its type, and sdpa as transformers' own choice of attention.
    dtype = getattr(torch, settings["dtype"])
    model = transformers.AutoModelForCausalLM.from_pretrained(settings["model"], dtype=dtype, attn_implementation="sdpa")
    return model.to(DEVICE)


def with_adapter(model):
    """The model to train: with its adapter, if the settings name one."""
    if settings["adapter"]:
        return peft.PeftModel.from_pretrained(model, settings["adapter"], is_trainable=True)
    return model


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def optimizer_of(model):
    # transformers' default optimizer.
    return torch.optim.AdamW(
        trained(model), lr=settings["learning_rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True
    )


def nca_loss(policy, reference, rewards):
    """Mean over prompts; all are [B][K], arXiv 2402.05369."""
    losses = []
    for log_policy, log_reference, reward in zip(policy, reference, rewards):
        implicit = settings["beta"] * (log_policy - log_reference)
        weights = torch.softmax(torch.tensor(reward, device=DEVICE) / settings["alpha"], dim=0)
        losses.append(-(weights * F.logsigmoid(implicit)).sum() - F.logsigmoid(-implicit).mean())
    return torch.stack(losses).mean()


def update(model, optimizer, loss):
    """The backward pass and the optimizer's step; returns their figures."""
    loss.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(trained(model), settings["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": loss.item(), "grad_norm": grad_norm.item()}


def groups_of_steps():
    """The groups of every step."""
    size, groups = settings["groups_per_step"], settings["groups"]
    return [groups[first : first + size] for first in range(0, len(groups), size)]


def timed(work):
    """What `work` returns, and its seconds."""
    start = time.perf_counter()
    result = work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def peak_bytes():
    try:
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(row):
    print(json.dumps(row), flush=True)


def serve(take_step, reference_seconds=()):
    """Says that it is ready, then calls `take_step` with the next step's number for each `step` on standard input."""
    say({
        "ready_seconds": time.perf_counter() - began,
        "reference_seconds": list(reference_seconds),
        "versions": {
            "python": sys.version.split()[0], "torch": torch.__version__,
            "transformers": transformers.__version__, "peft": peft.__version__,
        },
    })
    for number, line in enumerate(sys.stdin):
        if line.strip() != "step":
            break
        row, seconds = timed(lambda: take_step(number))
        say({"seconds": seconds, **row})
    say({"peak_rss_bytes": peak_bytes()})
