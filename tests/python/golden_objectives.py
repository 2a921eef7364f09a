"""Objectives in plain PyTorch, float64: losses and gradients that the built-in ones are compared with.

Shapes: policy_logps, reference_logps, rewards and lengths are [B, K]; a loss is [B].
"""

import math

import torch
from torch.nn.functional import logsigmoid


def nca(policy_logps, reference_logps, rewards, lengths, beta, alpha):
    h = beta * (policy_logps - reference_logps)
    w = (rewards / alpha).softmax(-1)
    return -(w * logsigmoid(h)).sum(-1) - logsigmoid(-h).mean(-1)


def infonca(policy_logps, reference_logps, rewards, lengths, beta, alpha):
    h = beta * (policy_logps - reference_logps)
    w = (rewards / alpha).softmax(-1)
    return -(w * h.log_softmax(-1)).sum(-1)


class Pair:
    """Best and worst response of each prompt by reward; of equal ones the earlier is the better. All fields are [B]."""

    def __init__(self, policy_logps, reference_logps, rewards, lengths):
        best = rewards.argmax(-1, keepdim=True)
        worst = rewards.size(-1) - 1 - rewards.flip(-1).argmin(-1, keepdim=True)
        self.chosen, self.rejected = (policy_logps.gather(-1, i)[..., 0] for i in (best, worst))
        self.chosen_length, self.rejected_length = (lengths.gather(-1, i)[..., 0] for i in (best, worst))
        reference_chosen, reference_rejected = (reference_logps.gather(-1, i)[..., 0] for i in (best, worst))
        # Δ = log π − log π_ref, and the difference of both.
        self.chosen_ratio = self.chosen - reference_chosen
        self.rejected_ratio = self.rejected - reference_rejected
        self.margin = self.chosen_ratio - self.rejected_ratio
        # Log-probs of a token in the mean.
        self.chosen_mean = self.chosen / self.chosen_length
        self.rejected_mean = self.rejected / self.rejected_length


def of_pairs(loss):
    """An objective from a loss of pairs."""
    return lambda *groups, **parameters: loss(Pair(*groups), **parameters)


def dpo(p, beta, label_smoothing):
    d = beta * p.margin
    return -logsigmoid(d) * (1 - label_smoothing) - logsigmoid(-d) * label_smoothing


def nca_pair(p, beta):
    c, x = beta * p.chosen_ratio, beta * p.rejected_ratio
    return -logsigmoid(c) - 0.5 * logsigmoid(-c) - 0.5 * logsigmoid(-x)


def ipo(p, beta):
    return (p.chosen_ratio / p.chosen_length - p.rejected_ratio / p.rejected_length - 1 / (2 * beta)) ** 2


def hinge(p, beta):
    return torch.relu(1 - beta * p.margin)


def robust(p, beta, label_smoothing):
    d = beta * p.margin
    kept, flipped = -(1 - label_smoothing) * logsigmoid(d), label_smoothing * logsigmoid(-d)
    return (kept + flipped) / (1 - 2 * label_smoothing)


def exo_pair(p, beta, label_smoothing):
    d = beta * p.margin
    forward = torch.sigmoid(d) * (logsigmoid(d) - math.log1p(-label_smoothing))
    return forward + torch.sigmoid(-d) * (logsigmoid(-d) - math.log(label_smoothing))


def bco_pair(p, beta):
    return -logsigmoid(beta * p.chosen_ratio) - logsigmoid(-beta * p.rejected_ratio)


def sppo_hard(p, beta):
    return (p.chosen_ratio - 0.5 / beta) ** 2 + (p.rejected_ratio + 0.5 / beta) ** 2


def apo_zero(p, beta):
    return 1 - torch.sigmoid(beta * p.chosen_ratio) + torch.sigmoid(beta * p.rejected_ratio)


def apo_down(p, beta):
    return torch.sigmoid(beta * p.chosen_ratio) + 1 - torch.sigmoid(beta * p.margin)


def discopop(p, beta, tau):
    d = beta * p.margin
    return -logsigmoid(d) * (1 - torch.sigmoid(d / tau)) + torch.exp(-d) * torch.sigmoid(d / tau)


def simpo(p, beta, gamma):
    return -logsigmoid(beta * (p.chosen_mean - p.rejected_mean) - gamma)


def cpo(p, beta, sft_weight):
    return -logsigmoid(beta * (p.chosen - p.rejected)) - sft_weight * p.chosen_mean


def orpo(p, beta):
    c, x = p.chosen_mean, p.rejected_mean
    log_odds = (c - x) - (torch.log1p(-torch.exp(c)) - torch.log1p(-torch.exp(x)))
    return -c - beta * logsigmoid(log_odds)


# Name, function, and the parameters under which it is evaluated. The order is that of objectives.json.
OBJECTIVES = {
    "nca": (nca, [{"beta": 0.1, "alpha": 0.33}, {"beta": 0.01, "alpha": 1e-4}]),
    "infonca": (infonca, [{"beta": 0.1, "alpha": 0.33}, {"beta": 0.01, "alpha": 1e-4}]),
    "dpo": (of_pairs(dpo), [{"beta": 0.1, "label_smoothing": 0.0}, {"beta": 0.1, "label_smoothing": 0.1}]),
    "nca_pair": (of_pairs(nca_pair), [{"beta": 0.1}]),
    "ipo": (of_pairs(ipo), [{"beta": 0.1}]),
    "hinge": (of_pairs(hinge), [{"beta": 0.1}]),
    "robust": (of_pairs(robust), [{"beta": 0.1, "label_smoothing": 0.1}]),
    "exo_pair": (of_pairs(exo_pair), [{"beta": 0.1, "label_smoothing": 1e-3}]),
    "bco_pair": (of_pairs(bco_pair), [{"beta": 0.1}]),
    "sppo_hard": (of_pairs(sppo_hard), [{"beta": 0.1}]),
    "apo_zero": (of_pairs(apo_zero), [{"beta": 0.1}]),
    "apo_down": (of_pairs(apo_down), [{"beta": 0.1}]),
    "discopop": (of_pairs(discopop), [{"beta": 0.1, "tau": 0.05}]),
    "simpo": (of_pairs(simpo), [{"beta": 2.0, "gamma": 1.0}]),
    "cpo": (of_pairs(cpo), [{"beta": 0.1, "sft_weight": 1.0}]),
    "orpo": (of_pairs(orpo), [{"beta": 0.1}]),
}


def objective_vectors(seed):
    """Random log-probs and rewards, with the losses and gradients that each objective gives them."""
    generator, rows, num_prompts = torch.Generator().manual_seed(seed), [], 5
    for name, (loss_of, all_parameters) in OBJECTIVES.items():
        for parameters in all_parameters:
            for num_responses in (2, 3, 4, 7):
                shape = (num_prompts, num_responses)
                lengths = torch.randint(3, 60, shape, generator=generator).double()
                per_token = 0.4 + torch.rand(shape, generator=generator, dtype=torch.float64)
                policy_logps = (-lengths * per_token).requires_grad_()
                noise = torch.randn(shape, generator=generator, dtype=torch.float64)
                reference_logps = policy_logps.detach() + 3 * noise
                rewards = torch.randint(0, 11, shape, generator=generator).double() / 10
                loss = loss_of(policy_logps, reference_logps, rewards, lengths, **parameters)
                loss.mean().backward()
                rows.append(
                    {
                        "objective": name,
                        "params": parameters,
                        "policy_logps": policy_logps.tolist(),
                        "reference_logps": reference_logps.tolist(),
                        "rewards": rewards.tolist(),
                        "lengths": lengths.long().tolist(),
                        "loss": loss.tolist(),
                        "mean_loss": loss.mean().item(),
                        "grad_of_mean": policy_logps.grad.tolist(),
                    }
                )
    return rows
