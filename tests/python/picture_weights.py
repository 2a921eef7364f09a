"""Converts a published checkpoint of LlamaGen or VAR, a pickle, to safetensors.

    python tests/python/picture_weights.py c2i_B_256.pt models/llamagen-b/model.safetensors
    python tests/python/picture_weights.py vae_ch160v4096z32.pth models/var-d16/vae.safetensors --only quantize.

Only weights are read, by PyTorch's safe loader: nothing in the file can run. `config.json` is written by hand; docs/visual.md says
which fields it has.
"""

import argparse

import torch
from safetensors.torch import save_file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pickle")
    parser.add_argument("output")
    parser.add_argument("--only", default="", help="keep tensors whose names begin with this")
    args = parser.parse_args()
    state = torch.load(args.pickle, map_location="cpu", weights_only=True)
    # LlamaGen's trainer wraps the weights, under one of these names.
    for key in ("model", "module", "state_dict"):
        if isinstance(state.get(key), dict):
            state = state[key]
            break
    names = [name for name in state if name.startswith(args.only) and name != "freqs_cis"]
    tensors = {name: state[name].detach().clone().contiguous() for name in names if isinstance(state[name], torch.Tensor)}
    if not tensors:
        raise SystemExit(f"{args.pickle}: no tensors whose names begin with {args.only!r}")
    save_file(tensors, args.output, metadata={"format": "pt"})
    print(f"{args.output}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
