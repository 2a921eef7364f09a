"""A control beside the published recipe: the same step in PyTorch, with what can be had without kernels of one's own.

A step's groups are one sequence without padding, each prompt once with its responses after it. A mask lets a response see
its prompt and itself, and its positions go on from its prompt's. Logits are computed where a response's token is predicted.
The reference is scored once, before the first step. Attention is sdpa with the mask: on a CPU, PyTorch 2.9's
flex_attention writes all scores to memory, and cannot be compiled for a backward pass. Settings, commands and answers are those of `step.py`.
"""

import torch
import torch.nn.functional as F

from entrant import DEVICE, groups_of_steps, load_model, nca_loss, optimizer_of, serve, timed, update, with_adapter


def packed(groups):
    """Token ids and positions [1, T], allowed pairs [1, 1, T, T], rows that predict the responses' tokens, and these."""
    ids, positions, owners, rows, targets = [], [], [], [], []
    for number, group in enumerate(groups):
        prompt, last = group["prompt"], len(ids) + len(group["prompt"]) - 1
        ids += prompt
        positions += range(len(prompt))
        owners += [(number, 0)] * len(prompt)
        for k, response in enumerate(group["responses"], start=1):
            rows += [last, *range(len(ids), len(ids) + len(response) - 1)]
            targets += response
            ids += response
            positions += range(len(prompt), len(prompt) + len(response))
            owners += [(number, k)] * len(response)
    group, segment = torch.tensor(owners, device=DEVICE).T
    order = torch.arange(len(ids), device=DEVICE)
    # A key is seen by the later rows of its group, if it is the prompt's or of the same response.
    of_segment = (segment[None, :] == 0) | (segment[:, None] == segment[None, :])
    allowed = (group[:, None] == group[None, :]) & of_segment & (order[:, None] >= order[None, :])

    def tensor(values):
        return torch.tensor(values, device=DEVICE)

    return tensor(ids)[None], tensor(positions)[None], allowed[None, None], tensor(rows), tensor(targets)


def response_logps(model, groups):
    """Log-probs of the responses, [B·K], in nats, and the number of tokens computed."""
    ids, positions, allowed, rows, targets = packed(groups)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    dtype = next(causal.parameters()).dtype
    mask = torch.zeros(allowed.shape, dtype=dtype, device=DEVICE).masked_fill(~allowed, torch.finfo(dtype).min)
    hidden = causal.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
    logits = causal.lm_head(hidden[0, rows]).float()
    lengths = [len(response) for group in groups for response in group["responses"]]
    logps = -F.cross_entropy(logits, targets, reduction="none")
    return torch.stack([part.sum() for part in logps.split(lengths)]), ids.numel()


def reference_logps(model, groups):
    with torch.no_grad():
        return response_logps(model, groups)[0]


def step(model, reference, optimizer, groups):
    """One optimizer step; returns its figures."""
    counts = [len(group["responses"]) for group in groups]
    policy, tokens = response_logps(model, groups)
    rewards = [group["rewards"] for group in groups]
    loss = nca_loss(policy.split(counts), reference.split(counts), rewards)
    return {**update(model, optimizer, loss), "tokens": tokens}


def main():
    model, steps = load_model(), groups_of_steps()
    # The reference is what training starts from; a fresh adapter adds nothing, as the published recipe assumes too.
    scored = [timed(lambda: reference_logps(model, groups)) for groups in steps]
    model = with_adapter(model).train()
    optimizer = optimizer_of(model)
    serve(
        lambda number: step(model, scored[number][0], optimizer, steps[number]),
        reference_seconds=[seconds for _, seconds in scored],
    )


if __name__ == "__main__":
    main()
