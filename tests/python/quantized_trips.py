"""Round trips over quantized bases: what bitsandbytes packs is read here, adapters go to PEFT over it and back.

The base is the model as transformers and bitsandbytes load it. Its layers unpack their weights and multiply in float32.
"""

import functools
import importlib.util

import peft
import torch
import transformers

import golden_models
import reference
import rows
from reference import Different

# The models of tests/golden/quantized: rows of their matrices are whole blocks, on which all of bitsandbytes' kernels agree.
FAMILIES = ("llama", "gemma2", "mixtral")
TARGETS = {"mixtral": ["q_proj", "v_proj", "o_proj"]}
# As in round_trips.py.
LOGPS = 1e-5
CHANGE = 100 * LOGPS


def without_bitsandbytes():
    """Why nothing here can be checked, if it cannot."""
    return None if importlib.util.find_spec("bitsandbytes") else "not installed: bitsandbytes"


def load_packed(folder, **settings):
    """A model as it was saved, or with settings as bitsandbytes packs it when it is loaded."""
    if settings:
        settings = {"quantization_config": transformers.BitsAndBytesConfig(**settings)}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map="cpu", attn_implementation="eager", **settings
    )
    # bitsandbytes multiplies in bfloat16 where a processor can, whatever `bnb_4bit_compute_dtype` says.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.eval()


class QuantizedBase:
    """A model in bitsandbytes' format, and the checks on it."""

    def __init__(self, name, quantization, program, folder):
        self.name, self.quantization, self.program, self.folder = name, quantization, program, folder
        golden_models.unpack_family(f"quantized/{name}", folder)
        self.plain = folder / "models" / f"{name}.quantized"
        self.data = folder / "rows.jsonl"
        rows.write(self.data)

    @property
    def settings(self):
        if self.quantization == "int8":
            return {"load_in_8bit": True}
        double = self.quantization == "nf4-double"
        four_bit = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
        return {"load_in_4bit": True, "bnb_4bit_use_double_quant": double} | four_bit

    @functools.cached_property
    def base(self):
        """The folder that transformers saves."""
        folder = self.folder / "packed"
        load_packed(self.plain, **self.settings).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast.from_pretrained(self.plain).save_pretrained(folder)
        return folder

    @functools.cached_property
    def adapter(self):
        return self.program.train(self.base, self.data, self.folder / "adapter", use_peft="true", lora_r=4)

    def score(self, model, adapter=None, *options):
        return self.program.score(self.data, self.folder / "scores.jsonl", model, adapter, *options)

    def agrees(self, model, scored, other=None):
        """A model's log-probs equal Collimate's, and those differ from `other`'s."""
        expected, found = _flat(scored), reference.logps(model, scored)
        if other is not None and _apart(expected, _flat(other)) < CHANGE:
            raise Different("the log-probs are those of another model")
        apart = _apart(found, expected)
        if not apart <= LOGPS:
            raise Different(f"log-probs are {apart:.1e} of them apart, more than {LOGPS}")
        return f"{len(found)} responses, largest relative difference {apart:.1e}"

    def base_here(self):
        return self.agrees(self.unpacked(load_packed(self.base)), self.score(self.base), self.score(self.plain))

    def adapter_in_peft(self):
        model = peft.PeftModel.from_pretrained(self.unpacked(load_packed(self.base)), self.adapter).eval()
        return self.agrees(model, self.score(self.base, self.adapter), self.score(self.base))

    def pefts_adapter_here(self):
        """Trained a little by PEFT over packed layers, so that it is one that belongs to them."""
        torch.manual_seed(1)
        targets = TARGETS.get(self.name, ["q_proj", "v_proj", "up_proj", "down_proj"])
        config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, init_lora_weights=False)
        folder = self.folder / "peft"
        model = peft.get_peft_model(self.unpacked(load_packed(self.base)), config).eval()
        model.save_pretrained(folder)
        return self.agrees(model, self.score(self.base, folder), self.score(self.base))

    def merged_in_transformers(self):
        folder = self.folder / "merged"
        self.program.run("merge", "--model", self.base, "--adapter", self.adapter, "--output", folder)
        kinds = reference.stored_dtypes(folder)
        if kinds != {"bfloat16"}:
            raise Different(f"{folder.name} holds {sorted(kinds)}")
        return self.agrees(reference.load(folder), self.score(folder), self.score(self.base))

    def packed_here_in_peft(self):
        """An adapter over a base that is packed when it is read, over the one that bitsandbytes packed."""
        keys = {"use_peft": "true", "lora_r": 4, "quantization": self.quantization}
        adapter = self.program.train(self.plain, self.data, self.folder / "at_load", **keys)
        packed = self.unpacked(load_packed(self.base))
        model = peft.PeftModel.from_pretrained(packed, adapter).eval()
        packing = ("--quantization", self.quantization)
        return self.agrees(model, self.score(self.plain, adapter, *packing), self.score(self.plain, None, *packing))

    def unpacked(self, model):
        """bitsandbytes' eight bits round activations too, which weights of eight bits do not ask for."""
        return model.dequantize() if self.quantization == "int8" else model

    def checks(self):
        checks = {
            "base of bitsandbytes, here": self.base_here,
            "adapter trained here, in PEFT": self.adapter_in_peft,
            "adapter made by PEFT, here": self.pefts_adapter_here,
            "merged model, in transformers": self.merged_in_transformers,
        }
        # transformers leaves experts unpacked.
        if self.name != "mixtral":
            checks["base packed here, in PEFT"] = self.packed_here_in_peft
        return checks


def all_checks(program, folder):
    """Checks of every model, by what they are of."""
    for name in FAMILIES:
        for quantization in ("nf4", "nf4-double", "int8"):
            base = QuantizedBase(name, quantization, program, folder / f"{name}.{quantization}")
            for what, check in base.checks().items():
                yield name, f"{quantization}, {what}", check


def _flat(scored):
    return [response["logps"] for row in scored for response in row["responses"]]


def _apart(found, expected):
    """The largest relative difference; NaN if any is NaN."""
    return max((abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True)), key=lambda x: (x != x, x))
