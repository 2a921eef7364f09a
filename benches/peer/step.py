"""PyTorch's side of a benchmark: the published NCA recipe, one step for each `step` on standard input.

Every response stands with a copy of its prompt, padded to the longest; policy and reference pass in every step; all
logits are in float32. Reads the tokens from the settings, so that they are those of the other side. Prints a line of JSON
when loaded, one for each step, and one at `quit`.
"""

from contextlib import contextmanager, nullcontext

import torch

from entrant import DEVICE, groups_of_steps, load_model, nca_loss, optimizer_of, serve, settings, update, with_adapter

IGNORED = -100


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


def step(model, reference_pass, optimizer, groups):
    """One optimizer step; returns its figures."""
    counts = [len(group["responses"]) for group in groups]
    batch = padded(groups)
    with torch.no_grad(), reference_pass() as reference:
        reference_logps = sequence_logps(reference, *batch)
    policy_logps = sequence_logps(model, *batch)
    rewards = [group["rewards"] for group in groups]
    loss = nca_loss(policy_logps.split(counts), reference_logps.split(counts), rewards)
    return {**update(model, optimizer, loss), "tokens": batch[0].numel()}


def main():
    model = with_adapter(load_model())
    if settings["adapter"]:

        @contextmanager
        def reference_pass():
            with model.disable_adapter():  # the same weights
                yield model

    else:
        frozen = load_model().requires_grad_(False)

        def reference_pass():
            return nullcontext(frozen)

    model.train()
    optimizer, steps = optimizer_of(model), groups_of_steps()
    serve(lambda number: step(model, reference_pass, optimizer, steps[number]))


if __name__ == "__main__":
    main()
