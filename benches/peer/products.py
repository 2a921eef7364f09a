"""GFLOP/s of PyTorch's matrix products at the shapes of `cargo xtask bench -- --bench ops gemm`.

    python benches/peer/products.py [--dtype bfloat16] [--precision high] [--threads 2] [--runs 7]

A line for each shape: the median of the runs after one that does not count.
"""

import argparse
import os
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
parser.add_argument("--precision", default="highest", choices=("highest", "high", "medium"))
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--runs", type=int, default=7)
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import torch  # noqa: E402

# x·Wᵀ: tokens, inputs, outputs; dᵀ·x: outputs, tokens, inputs.
FORWARD = ((1024, 576, 576), (1024, 576, 1536), (1024, 1536, 576), (1024, 576, 16), (800, 576, 49152))
BACKWARD = ((576, 1024, 576), (1536, 1024, 576))


def gflops(left, right):
    seconds = []
    for _ in range(options.runs + 1):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    rows, inner = left.shape
    return 2e-9 * rows * inner * right.shape[1] / statistics.median(seconds[1:])


def main():
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.precision)
    dtype = getattr(torch, options.dtype)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} threads, {options.dtype}, {options.precision}")
    with torch.no_grad():
        for tokens, inputs, outputs in FORWARD:
            x, weight = torch.randn(tokens, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
            print(f"x·Wᵀ [{tokens}, {inputs}] · [{inputs}, {outputs}] {gflops(x, weight.T):8.1f} GFLOP/s", flush=True)
        for outputs, tokens, inputs in BACKWARD:
            d, x = torch.randn(tokens, outputs, dtype=dtype), torch.randn(tokens, inputs, dtype=dtype)
            print(f"dᵀ·x [{outputs}, {tokens}] · [{tokens}, {inputs}] {gflops(d.T, x):8.1f} GFLOP/s", flush=True)


if __name__ == "__main__":
    main()
