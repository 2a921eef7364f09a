"""PyTorch's side of the benchmark of condition contrastive alignment on LlamaGen: as many steps as asked for, as the published program
takes them.

    python benches/peer/pictures.py MODEL ROWS.jsonl --steps 6 --batch 4 --threads 2

The model is written here from its definition over the published tensor names, with PyTorch's own attention; policy and reference each
score both conditions of a row in one batch. Prints a line of JSON with the seconds of each step and the peak of memory.
"""

import argparse
import copy
import json
import pathlib
import resource
import time

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.wqkv, self.wo = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x, angles):
        count, length, width = x.shape
        parts = self.wqkv(x).view(count, length, 3, self.heads, width // self.heads).unbind(2)
        q, k, v = rotated(parts[0], angles), rotated(parts[1], angles), parts[2]
        out = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)), is_causal=True)
        return self.wo(out.transpose(1, 2).reshape(count, length, width))


class FeedForward(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.w1, self.w3 = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, multiple = config["dim"], config["multiple_of"]
        inner = -(-(8 * width // 3) // multiple) * multiple
        self.attention, self.feed_forward = Attention(width, config["n_head"]), FeedForward(width, inner)
        self.attention_norm, self.ffn_norm = Norm(width, config["norm_eps"]), Norm(width, config["norm_eps"])

    def forward(self, x, angles):
        x = x + self.attention(self.attention_norm(x), angles)
        return x + self.feed_forward(self.ffn_norm(x))


class LlamaGen(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, tokens = config["dim"], config["vocab_size"]
        self.tok_embeddings = nn.Embedding(tokens, width)
        self.cls_embedding = nn.Module()
        self.cls_embedding.embedding_table = nn.Embedding(config["num_classes"] + 1, width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config["n_layer"]))
        self.norm, self.output = Norm(width, config["norm_eps"]), nn.Linear(width, tokens, bias=False)
        self.register_buffer("angles", grid(config), persistent=False)

    def logps(self, conditions, tokens):
        """Log-probs of pictures, [B]."""
        first = self.cls_embedding.embedding_table(conditions)[:, None]
        x = torch.cat([first, self.tok_embeddings(tokens[:, :-1])], dim=1)
        for layer in self.layers:
            x = layer(x, self.angles)
        logits = self.output(self.norm(x)).float()
        return logits.log_softmax(-1).gather(2, tokens[:, :, None]).sum((1, 2))


def grid(config):
    """Cosines and sines, [L, head_dim / 2]: rows, then columns; both zero for the class."""
    side, width = int(config["block_size"] ** 0.5), config["dim"] // config["n_head"] // 2
    frequencies = config["rope_base"] ** (-torch.arange(0, width, 2).float() / width)
    place = torch.arange(side).float()[:, None] * frequencies
    both = torch.cat([place[:, None].expand(side, side, -1), place[None].expand(side, side, -1)], dim=-1)
    turns = torch.stack([both.cos(), both.sin()], dim=-1).view(side * side, width, 2)
    return torch.cat([torch.zeros(1, width, 2), turns])[: side * side]


def rotated(x, angles):
    pairs = x.float().reshape(*x.shape[:-1], -1, 2)
    cos, sin = (part[None, :, None] for part in angles.unbind(-1))
    one, other = pairs.unbind(-1)
    return torch.stack([one * cos - other * sin, other * cos + one * sin], dim=-1).flatten(3).type_as(x)


def step(policy, reference, optimizer, rows, args):
    conditions = torch.tensor([row["condition"] for row in rows])
    tokens = torch.tensor([row["tokens"] for row in rows])
    both = (torch.cat([conditions, conditions.roll(-1)]), torch.cat([tokens, tokens]))
    with torch.no_grad():
        reference_logps = reference.logps(*both)
    own, other = (args.beta * (policy.logps(*both) - reference_logps)).chunk(2)
    same = conditions == conditions.roll(-1)
    negative = torch.where(same, -F.logsigmoid(other), -args.lambda_ * F.logsigmoid(-other))
    loss = (-F.logsigmoid(own) + negative).mean() / max(args.lambda_, 1)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss), float(norm)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--beta", type=float, default=0.02)
    parser.add_argument("--lambda", dest="lambda_", type=float, default=500.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = json.loads((args.model / "config.json").read_text())
    policy = LlamaGen(config)
    policy.load_state_dict(load_file(args.model / "model.safetensors"))
    reference = copy.deepcopy(policy).requires_grad_(False)
    decay = [p for p in policy.parameters() if p.dim() > 1]
    rest = [p for p in policy.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.95))
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
    seconds, figures = [], []
    for number in range(args.steps):
        begun = time.perf_counter()
        figures.append(step(policy, reference, optimizer, rows[number * args.batch : (number + 1) * args.batch], args))
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "loss": [f[0] for f in figures], "grad_norm": [f[1] for f in figures]}))


if __name__ == "__main__":
    main()
