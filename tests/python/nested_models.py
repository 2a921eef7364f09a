"""Small image-and-text models as transformers writes them, around the text models of tests/golden."""

import json
import pathlib

import golden_models
import torch
import transformers

# The text family inside each architecture.
TEXTS = {"gemma3": "gemma3_text", "mistral3": "ministral3"}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14}


def make(name, folder):
    """Writes the model of this name, with random weights and a tokenizer of the golden ones."""
    golden_models.unpack_family(TEXTS[name], folder / "golden")
    source = folder / "golden" / "models" / TEXTS[name]
    model = _model(name, transformers.AutoConfig.from_pretrained(source).to_dict())
    target = pathlib.Path(folder) / name
    model.save_pretrained(target)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        (target / file).write_bytes((source / file).read_bytes())
    return target


def _model(name, text):
    text = {key: value for key, value in text.items() if key not in ("architectures", "transformers_version")}
    size = text["vocab_size"]
    torch.manual_seed(7)
    if name == "gemma3":
        tokens = {"image_token_index": size - 1, "boi_token_index": size - 2, "eoi_token_index": size - 3}
        config = transformers.Gemma3Config(
            text_config=text, vision_config=TOWER | {"image_size": 28}, mm_tokens_per_image=4, **tokens
        )
        model = transformers.Gemma3ForConditionalGeneration._from_config(config, dtype=torch.float32)
    else:
        tower = TOWER | {"model_type": "pixtral", "head_dim": 16, "image_size": 56}
        config = transformers.Mistral3Config(
            text_config=text, vision_config=tower, image_token_index=size - 1, tie_word_embeddings=False
        )
        model = transformers.Mistral3ForConditionalGeneration._from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_((0.1 if parameter.dim() == 1 else 0.05) * torch.randn_like(parameter))
    return model


def is_nested(folder):
    """Whether a folder's text model is inside an image-and-text one."""
    return "text_config" in json.loads((folder / "config.json").read_text())
