"""Makes tests/golden/quantized.json: packed weights as others write them, and what they unpack to.

    python tests/python/golden_quantized.py        # with bitsandbytes 0.50.2 beside tests/python/requirements.txt

A case is the tensors of one weight, `X.weight`, with the numbers that they stand for, and the checkpoint's quantization_config
where it matters. bitsandbytes' are written by its own modules from numbers that `draw` makes, so that a test can pack the
same. GPTQ and AWQ are packed here as AutoGPTQ and AutoAWQ pack, MXFP4 is unpacked by transformers.
"""

import base64
import json

import bitsandbytes
import torch
from make_golden import write_sums
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from golden_models import GOLDEN

TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SAFETENSORS = {
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int32: "I32",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
}
# Every seventh row and fifth column of a matrix with outliers.
OUTLIER_ROWS, OUTLIER_COLUMNS = 7, 5


def draw(shape, kind, dtype):
    """Numbers whose float32 is exact: sums of four pieces of a hash of the position."""
    rows, columns = shape
    numbers = []
    for i in range(rows * columns):
        h = (i + 1) * 0x9E3779B97F4A7C15 % 2**64
        h = (h ^ h >> 32) * 0xD6E8FEB86659FD93 % 2**64
        h ^= h >> 32
        number = (sum(h >> 12 * piece & 0xFFF for piece in range(4)) - 8190) / 8192
        row, column = divmod(i, columns)
        if kind == "outliers" and row % OUTLIER_ROWS == 0 and column % OUTLIER_COLUMNS == 0:
            number *= 32
        if kind == "zeros" and 2 <= row < 5:
            number = 0.0
        if kind == "tiny":
            number *= 2.0**-100
        if kind == "subnormal":
            number *= 2.0**-130
        numbers.append(number)
    return torch.tensor(numbers, dtype=torch.float64).float().to(dtype).reshape(shape)


def stored(tensor):
    data = tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor.reshape(1).view(torch.uint8)
    return {
        "dtype": SAFETENSORS[tensor.dtype],
        "shape": list(tensor.shape),
        "data": base64.b64encode(data.numpy().tobytes()).decode(),
    }


def case(name, shape, tensors, unpacked, config=None, packs=None):
    unpacked = stored(unpacked.float())["data"]
    made = {"name": name, "shape": list(shape), "config": config, "packs": packs, "unpacked": unpacked}
    return made | {"tensors": {suffix: stored(tensor) for suffix, tensor in tensors.items()}}


def four_bit(shape, kind, double, block=64, quant_type="nf4", dtype="float32", storage=torch.uint8):
    options = dict(quant_type=quant_type, compress_statistics=double, blocksize=block, quant_storage=storage)
    weight = bitsandbytes.nn.Params4bit(draw(shape, kind, TORCH[dtype]), requires_grad=False, **options).to("cpu")
    state = weight.quant_state
    tensors = {".weight": weight.data} | {f".weight.{k}": v for k, v in state.as_dict(packed=True).items()}
    scales = state.absmax
    if double:
        scales = bitsandbytes.functional.dequantize_blockwise(scales, state.state2) + state.offset
    # Not dequantize_4bit: its kernel for AVX-512 takes other scales where rows are not whole blocks.
    codes = weight.data.view(torch.uint8).flatten()
    codes = torch.stack([codes >> 4, codes & 15], 1).flatten()[: shape[0] * shape[1]].long()
    unpacked = state.code[codes] * scales[torch.arange(codes.numel()) // block]
    packs = {"kind": kind, "dtype": dtype, "quant_type": quant_type, "block": block, "double": double}
    name = f"{quant_type} {shape[0]} × {shape[1]} {kind}{' double' if double else ''}, {block}, {dtype}, {storage}"
    packs = packs if storage == torch.uint8 else None
    return case(name, shape, tensors, unpacked.to(TORCH[dtype]), packs=packs)


def int8(shape, kind, dtype):
    weight = bitsandbytes.nn.Int8Params(draw(shape, kind, TORCH[dtype]), requires_grad=False).to("cpu")
    tensors = {".weight": weight.data, ".SCB": weight.SCB, ".weight_format": torch.tensor(0, dtype=torch.uint8)}
    unpacked = weight.data.float() * weight.SCB[:, None] / 127.0
    packs = {"kind": kind, "dtype": dtype, "quant_type": "int8", "block": 0, "double": False}
    return case(f"int8 {shape[0]} × {shape[1]} {kind}, {dtype}", shape, tensors, unpacked, packs=packs)


def fp8(shape, block, scale_dtype):
    scales = draw([-(-side // each) for side, each in zip(shape, block)], "normal", torch.float32).abs().to(scale_dtype)
    codes = (draw(shape, "outliers", torch.float32) * 10).to(torch.float8_e4m3fn)
    wide = scales.float().repeat_interleave(block[0], 0)[: shape[0]].repeat_interleave(block[1], 1)[:, : shape[1]]
    config = {"quant_method": "fp8", "weight_block_size": block, "activation_scheme": "dynamic", "fmt": "e4m3"}
    tensors = {".weight": codes, ".weight_scale_inv": scales}
    return case(f"fp8 {block}, {SAFETENSORS[scale_dtype]}", shape, tensors, codes.float() * wide, config)


def mxfp4(experts, rows, blocks):
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(0, 256, (experts, rows, blocks, 16), generator=generator, dtype=torch.uint8)
    exponents = torch.randint(100, 140, (experts, rows, blocks), generator=generator, dtype=torch.uint8)
    exponents[0, 0, 0], exponents[0, 1, 0] = 0, 252
    # transformers gives [experts, columns, rows].
    unpacked = convert_moe_packed_tensors(codes, exponents, dtype=torch.float32).transpose(1, 2)
    config = {"quant_method": "mxfp4"}
    return case("mxfp4", [rows, 32 * blocks], {"_blocks": codes, "_scales": exponents}, unpacked, config)


def packed_along(codes, bits):
    """Words of the bits of codes along the first axis, from the lowest bit on."""
    count, others = codes.shape
    stream = (codes[:, None, :] >> torch.arange(bits)[None, :, None] & 1).reshape(count * bits // 32, 32, others)
    return (stream << torch.arange(32)[None, :, None]).sum(1).to(torch.int64).bitwise_and(0xFFFFFFFF).to(torch.int32)


def gptq(bits, rows, columns, group, act_order, v2):
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (columns, rows), generator=generator)
    zeros = torch.randint(1, 2**bits, (columns // group, rows), generator=generator)
    scales = draw([columns // group, rows], "normal", torch.float16).abs()
    groups = torch.arange(columns) // group
    if act_order:
        groups = groups[torch.randperm(columns, generator=generator)]
    unpacked = ((codes - zeros[groups]) * scales.float()[groups]).T
    tensors = {
        ".qweight": packed_along(codes, bits),
        ".qzeros": packed_along((zeros if v2 else zeros - 1).T, bits).T,
        ".scales": scales,
        ".g_idx": groups.to(torch.int32),
    }
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order}
    config["checkpoint_format"] = "gptq_v2" if v2 else "gptq"
    return case(f"gptq {bits} bits{', act-order' if act_order else ''}", [rows, columns], tensors, unpacked, config)


def awq_packed(codes):
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    eights = codes.reshape(codes.shape[0], -1, 8)[:, :, order]
    return (eights << 4 * torch.arange(8)).sum(-1).bitwise_and(0xFFFFFFFF).to(torch.int32)


def awq(rows, columns, group):
    generator = torch.Generator().manual_seed(11)
    codes = torch.randint(0, 16, (columns, rows), generator=generator)
    zeros = torch.randint(0, 16, (columns // group, rows), generator=generator)
    scales = draw([columns // group, rows], "normal", torch.float16).abs()
    groups = torch.arange(columns) // group
    unpacked = ((codes - zeros[groups]) * scales.float()[groups]).T
    tensors = {".qweight": awq_packed(codes), ".qzeros": awq_packed(zeros), ".scales": scales}
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    return case("awq", [rows, columns], tensors, unpacked, config)


def cases():
    for shape, kind in (((3, 51), "normal"), ((9, 80), "outliers"), ((8, 64), "zeros"), ((5, 13), "tiny"), ((2, 64), "subnormal")):
        for double in (False, True):
            yield four_bit(shape, kind, double)
    # More than one block of scales.
    yield four_bit((129, 128), "outliers", True, block=32)
    yield four_bit((4, 96), "normal", False, block=128)
    yield four_bit((6, 72), "outliers", False, quant_type="fp4")
    yield four_bit((6, 72), "zeros", True, quant_type="fp4")
    yield four_bit((4, 96), "normal", True, dtype="bfloat16")
    yield four_bit((4, 96), "outliers", False, dtype="float16")
    yield four_bit((4, 96), "normal", False, storage=torch.bfloat16)
    yield four_bit((4, 96), "normal", True, storage=torch.float32)
    yield int8((5, 33), "normal", "float32")
    yield int8((15, 40), "outliers", "bfloat16")
    yield int8((8, 24), "zeros", "float16")
    yield fp8([10, 37], [4, 8], torch.float32)
    yield fp8([16, 24], [16, 16], torch.bfloat16)
    yield mxfp4(2, 3, 2)
    for bits in (2, 3, 4, 8):
        yield gptq(bits, 32, 64, 32, act_order=bits == 4, v2=bits == 8)
    yield awq(16, 64, 32)


def main():
    torch.set_num_threads(1)
    text = ",\n".join(json.dumps(made, ensure_ascii=False) for made in cases())
    (GOLDEN / "quantized.json").write_text(f"[{text}]\n", encoding="utf-8")
    write_sums(GOLDEN)


if __name__ == "__main__":
    main()
