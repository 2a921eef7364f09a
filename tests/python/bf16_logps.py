"""How far PyTorch's own bfloat16 is from float64 on the golden models: the yardstick of this project's tolerances.

    python tests/python/bf16_logps.py [MODEL …]

Needs torch and transformers. A line for each model, for bfloat16 and for float32 (attention eager, log-softmax in float32 at
least, as TRL has it): the largest and the mean error of a response's log-prob, relative; the same of a token's, in nats; and
the error of the gradient of the first two prompts' weighted log-probs, relative to its norm.
"""

import json
import pathlib
import sys
import tempfile

import torch
import transformers

import golden_models


def token_logps(model, row):
    """Log-probs of a row's response tokens, the softmax in float32 at least."""
    prompt, response = row["prompt_ids"], row["response_ids"]
    logits = model(torch.tensor([prompt + response]), use_cache=False).logits[0]
    if logits.dtype == torch.bfloat16:
        logits = logits.float()
    logps = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return logps.gather(1, torch.tensor(response)[:, None])[:, 0]


def measured(folder, rows, dtype):
    """Log-probs by row and token, and a gradient, in float64 numbers."""
    # The fused kernel of experts knows no float64.
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **eager).eval()
    with torch.no_grad():
        logps = [token_logps(model, row).double() for row in rows]
    prompts = [prompt for i, row in enumerate(rows) if (prompt := row["prompt"]) not in [r["prompt"] for r in rows[:i]]]
    for prompt in prompts[:2]:
        for k, row in enumerate(row for row in rows if row["prompt"] == prompt):
            ((0.3 - 0.2 * k) * token_logps(model, row).sum()).backward()
    gradient = {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}
    return logps, gradient


def main(golden):
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for name in sys.argv[1:] or golden_models.families():
        golden_models.unpack_family(name, golden)
        rows = json.loads((golden / "logps" / f"{name}.json").read_text())
        exact, exact_gradient = measured(golden / "models" / name, rows, torch.float64)
        line = f"{name:8}"
        for dtype in [torch.bfloat16, torch.float32]:
            found, gradient = measured(golden / "models" / name, rows, dtype)
            sums = torch.tensor([abs(f.sum() / e.sum() - 1).item() for f, e in zip(found, exact)])
            tokens = torch.cat([(f - e).abs() for f, e in zip(found, exact)])
            error = sum((gradient[key] - value).square().sum() for key, value in exact_gradient.items())
            size = sum(value.square().sum() for value in exact_gradient.values())
            line += f"  {str(dtype).removeprefix('torch.')}: response {sums.max():.2e} (mean {sums.mean():.2e})"
            line += f", token {tokens.max():.2e} (mean {tokens.mean():.2e}), gradient {(error / size).sqrt():.2e}"
        print(line, flush=True)


with tempfile.TemporaryDirectory() as folder:
    main(pathlib.Path(folder))
