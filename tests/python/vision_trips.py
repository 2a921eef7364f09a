"""Round trips of image-and-text models whose tower is computed: with images, in both layouts of folders, and adapters of both
generations of names.

Images have the size that they are resized to, and are cut into patches here, so that neither Pillow nor torchvision is needed.
"""

import functools
import json
import pathlib
import random
import shutil
import struct
import zlib

import peft
import safetensors.torch
import torch
import transformers

import reference
from reference import Different

ROOT = pathlib.Path(__file__).parents[2]
# Tokenizer, chat template and image settings of the quickstart's small model.
SMALL = ROOT / "crates/collimate-counting/assets/base"
# As in round_trips.py.
LOGPS = 1e-5
CHANGE = 100 * LOGPS
SIDE = 112
IMAGE = 5
TEXT = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}
TOKENS = {"image_token_id": IMAGE, "vision_start_token_id": 3, "vision_end_token_id": 4}
KINDS = {
    "qwen2_vl": (
        transformers.Qwen2VLConfig, transformers.Qwen2VLForConditionalGeneration,
        {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
    ),
    "qwen2_5_vl": (
        transformers.Qwen2_5_VLConfig, transformers.Qwen2_5_VLForConditionalGeneration,
        {"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 48,
         "window_size": 56, "fullatt_block_indexes": [1]},
    ),
}


def make(name, folder):
    """Writes a model with random weights as transformers does, in the new layout."""
    config_of, model_of, vision = KINDS[name]
    vocab = len(json.loads((SMALL / "tokenizer.json").read_text())["model"]["vocab"])
    config = config_of(text_config=TEXT | {"vocab_size": vocab}, vision_config=vision, **TOKENS)
    torch.manual_seed(3)
    model = model_of._from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_((0.1 if parameter.dim() == 1 else 0.05) * torch.randn_like(parameter))
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(SMALL / file, folder / file)
    return folder


def in_published_layout(base, folder):
    """The same model as the hub has it: a flat configuration, and names without the prefixes."""
    shutil.copytree(base, folder)
    config = json.loads((base / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope["rope_theta"]
    text["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    text.pop("model_type", None)
    (folder / "config.json").write_text(json.dumps(text | config))
    weights = safetensors.torch.load_file(base / "model.safetensors")
    renamed = {name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): value for name, value in weights.items()}
    safetensors.torch.save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_rows(folder):
    """Six prompts with an image each and three responses."""
    (folder / "images").mkdir(parents=True)
    draw, lines = random.Random(5), []
    for index in range(6):
        levels = torch.full((SIDE, SIDE, 3), 236, dtype=torch.uint8)
        for cell in draw.sample(range(16), 5):
            top, left = cell // 4 * 28 + 6, cell % 4 * 28 + 6
            levels[top : top + 16, left : left + 16] = torch.tensor([draw.randrange(256) for _ in range(3)], dtype=torch.uint8)
        (folder / f"images/{index}.png").write_bytes(png(levels))
        torch.save(levels, folder / f"images/{index}.pt")
        content = [{"type": "image", "image": f"images/{index}.png"}, {"type": "text", "text": f"How many shapes? {index}"}]
        responses = [{"content": f"{index}+{k}. Answer: {index + k}", "reward": 1.0 - k / 2} for k in range(3)]
        lines.append(json.dumps({"prompt": [{"role": "user", "content": content}], "responses": responses}) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines))
    return folder / "rows.jsonl"


def png(levels):
    """A PNG file of levels [height, width, 3]."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = levels.shape
    lines = b"".join(b"\0" + bytes(line.flatten().tolist()) for line in levels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def load(folder):
    """A model that computes in float32; every weight must be found."""
    name = json.loads((folder / "config.json").read_text())["model_type"]
    model, info = KINDS[name][1].from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if wrong:
        raise Different(f"transformers loads {folder.name} with {wrong}")
    return model.eval()


def patches(levels):
    """Patches [P, 1176] of a square image that keeps its size, levels [height, width, 3], and its grid, as VISUAL's processor makes them."""
    settings = json.loads((SMALL / "preprocessor_config.json").read_text())
    mean = torch.tensor(settings.get("image_mean", [0.48145466, 0.4578275, 0.40821073]))
    std = torch.tensor(settings.get("image_std", [0.26862954, 0.26130258, 0.27577711]))
    values = ((levels.float() - 255 * mean) / (255 * std)).permute(2, 0, 1)
    side = len(levels) // 14
    # (channel, frame, y, x) of each patch; squares of 2 × 2 patches one after the other.
    blocks = values.view(3, side // 2, 2, 14, side // 2, 2, 14).permute(1, 4, 2, 5, 0, 3, 6).reshape(side * side, 3, 1, 14, 14)
    return blocks.expand(-1, -1, 2, -1, -1).reshape(side * side, -1), torch.tensor([[1, side, side]])


def logps(model, scored, images):
    """Log-probs of the responses, in nats, each with its prompt's image."""
    found = []
    with torch.no_grad():
        for index, row in enumerate(scored):
            values, grid = patches(torch.load(images / f"{index}.pt"))
            for response in row["responses"]:
                ids = torch.tensor([row["prompt_ids"] + response["response_ids"]])
                types = (ids == IMAGE).long()
                logits = model(
                    input_ids=ids, pixel_values=values, image_grid_thw=grid, mm_token_type_ids=types, use_cache=False
                ).logits
                start = len(row["prompt_ids"])
                predictions = logits[0, start - 1 : -1].double().log_softmax(-1)
                found.append(predictions.gather(1, ids[0, start:, None]).sum().item())
    return found


class Seeing:
    """One model in one layout, and the checks on it."""

    def __init__(self, name, layout, program, folder):
        self.name, self.program, self.folder = f"{name} {layout}", program, folder
        self.base = make(name, folder / "new")
        if layout == "published":
            self.base = in_published_layout(self.base, folder / "published")
        self.data = write_rows(folder / "data")

    def score(self, model, adapter=None):
        return self.program.score(self.data, self.folder / "scores.jsonl", model, adapter)

    @functools.cached_property
    def base_logps(self):
        return self.flat(self.score(self.base))

    @staticmethod
    def flat(scored):
        return [response["logps"] for row in scored for response in row["responses"]]

    def agrees(self, model, folder, adapter=None, changed=True):
        scored = self.score(folder, adapter)
        expected, found = self.flat(scored), logps(model, scored, self.data.parent / "images")
        if changed and self.apart(expected, self.base_logps) < CHANGE:
            raise Different("the log-probs are those of the base model")
        apart = self.apart(found, expected)
        if not apart <= LOGPS:
            raise Different(f"log-probs are {apart:.1e} of them apart, more than {LOGPS}")
        return f"{len(found)} responses, largest relative difference {apart:.1e}"

    @staticmethod
    def apart(found, expected):
        return max((abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True)), key=lambda x: (x != x, x))

    @functools.cached_property
    def adapter(self):
        return self.program.train(self.base, self.data, self.folder / "adapter", use_peft="true", lora_r=4)

    def as_it_is(self):
        return self.agrees(load(self.base), self.base, changed=False)

    def trained_whole(self):
        full = self.program.train(self.base, self.data, self.folder / "full")
        return self.agrees(load(full), full)

    def adapter_in_peft(self):
        return self.agrees(self.in_peft(self.adapter), self.base, self.adapter)

    def in_peft(self, adapter):
        return peft.PeftModel.from_pretrained(load(self.base), adapter).eval()

    def adapter_on_the_tower(self):
        targets = json.dumps(["q_proj", "v_proj", "attn.qkv", "attn.proj"])
        folder = self.folder / "tower"
        keys = {"use_peft": "true", "lora_r": 4, "lora_dropout": 0, "lora_target_modules": targets}
        self.program.train(self.base, self.data, folder, **keys)
        return self.agrees(self.in_peft(folder), self.base, folder)

    def merged(self):
        output = self.folder / "merged"
        self.program.run("merge", "--model", self.base, "--adapter", self.adapter, "--output", output)
        return self.agrees(load(output), output)

    def adapter_of_old_names(self):
        """Read here; PEFT takes it for nothing."""
        old = self.folder / "old_names"
        shutil.copytree(self.adapter, old)
        weights = safetensors.torch.load_file(old / "adapter_model.safetensors")
        renamed = {name.replace("model.language_model.", "model."): value for name, value in weights.items()}
        if renamed.keys() == weights.keys():
            raise Different("what is written has the old names")
        safetensors.torch.save_file(renamed, old / "adapter_model.safetensors", metadata={"format": "pt"})
        if self.flat(self.score(self.base, old)) != self.flat(self.score(self.base, self.adapter)):
            raise Different("the names change the numbers")
        scored = self.score(self.base)
        ignored = self.apart(logps(self.in_peft(old), scored, self.data.parent / "images"), self.base_logps)
        return "the same numbers here; " + ("PEFT loads nothing" if ignored < LOGPS else "PEFT loads it")

    def checks(self):
        return {
            "as transformers wrote it": self.as_it_is,
            "model trained whole, in transformers": self.trained_whole,
            "adapter trained here, in PEFT": self.adapter_in_peft,
            "adapter on the tower trained here, in PEFT": self.adapter_on_the_tower,
            "merged model, in transformers": self.merged,
            "adapter of old names": self.adapter_of_old_names,
        }


def all_checks(program, folder):
    """Names, descriptions and checks of all models in both layouts."""
    for name in KINDS:
        for layout in ("new", "published"):
            seeing = Seeing(name, layout, program, folder / f"{name}_{layout}")
            yield from ((seeing.name, what, check) for what, check in seeing.checks().items())
