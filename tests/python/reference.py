"""The other side: models, adapters and tokenizers as transformers and PEFT load them."""

import json
import warnings

import nested_models
import peft
import safetensors.torch
import tokenizers
import torch
import transformers

# Of PEFT's calls into transformers: nothing that a user of either could change.
warnings.filterwarnings("ignore", category=FutureWarning)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class Different(Exception):
    """What was found is not what was expected."""


def load(folder):
    """A model that computes in float32, whatever its weights are stored in; every weight must be found."""
    nested = nested_models.is_nested(folder)
    kind = transformers.AutoModelForImageTextToText if nested else transformers.AutoModelForCausalLM
    model, info = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if wrong:
        raise Different(f"transformers loads {folder.name} with {wrong}")
    return model.eval()


def load_adapter(base, adapter):
    """A model with an adapter on it; every matrix must be found."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(load(base), adapter)
    missing = [str(warning.message) for warning in caught if "adapter keys" in str(warning.message)]
    if missing:
        raise Different(missing[0])
    return model.eval()


def make_adapter(base, folder, target_modules, **settings):
    """Writes an adapter with random A and B, scaled as rank-stabilized LoRA; magnitudes and copies a little off."""
    torch.manual_seed(1)
    settings = {"use_rslora": True, "target_modules": target_modules} | settings
    config = peft.LoraConfig(r=3, lora_alpha=5, init_lora_weights=False, task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(load(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name or ("modules_to_save" in name and parameter.requires_grad):
                parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)


def logps(model, scored):
    """Log-probs of the responses of rows that `collimate score --tokens` wrote, summed over tokens, in nats."""
    found = []
    with torch.no_grad():
        for row in scored:
            prompt = row["prompt_ids"]
            for response in row["responses"]:
                ids = response["response_ids"]
                logits = model(input_ids=torch.tensor([prompt + ids]), use_cache=False).logits
                # Each token is predicted at the place before it. Sums of many terms are float64's on the other side too.
                predictions = logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
                found.append(predictions.gather(1, torch.tensor(ids)[:, None]).sum().item())
    return found


def weights_apart(merged, folder):
    """The largest absolute difference of weights between a model in memory and one in a folder."""
    mine, other = merged.state_dict(), load(folder).state_dict()
    if mine.keys() != other.keys():
        raise Different(f"other weights: {sorted(mine.keys() ^ other.keys())}")
    return max((mine[name] - other[name]).abs().max().item() for name in mine)


def stored_dtypes(folder):
    """Names of the types that the configuration and the weights' files name."""
    kinds = {transformers.AutoConfig.from_pretrained(folder).dtype}
    in_float32 = ("e_score_correction_bias", ".linear_attn.A_log", ".linear_attn.norm.weight")
    for file in folder.glob("*.safetensors"):
        weights = safetensors.torch.load_file(file).items()
        # Kept in float32 by transformers too, or by the publisher.
        kinds |= {weight.dtype for name, weight in weights if not name.endswith(in_float32)}
    return {str(kind).removeprefix("torch.") for kind in kinds}


def tokenizer_of(folder):
    """The folder's tokenizer and the class that loads it: AutoTokenizer where that takes `tokenizer.json` as it stands.

    For some model types (qwen2 among them) it puts the pipeline of that type's published tokenizers in place of the
    file's, which a tokenizer of another make must not have.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    file = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if _pipeline(tokenizer.backend_tokenizer) == _pipeline(file):
        return tokenizer, "AutoTokenizer"
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder), "PreTrainedTokenizerFast"


def _pipeline(tokenizer):
    """What comes before and after the vocabulary."""
    whole = json.loads(tokenizer.to_str())
    return [whole[part] for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]


def token_ids(tokenizer, row):
    """Prompt and responses of a row as the tokenizer and its chat template give them, responses as continuations."""

    def plain(text):
        return tokenizer(text, add_special_tokens=False).input_ids

    def continuation(before, text):
        # Where a token would reach across the boundary, the response is taken as it continues a line break.
        for start in (before, "\n"):
            head, joint = plain(start), plain(start + text)
            if joint[: len(head)] == head:
                return joint[len(head) :]
        raise ValueError(f"no boundary before {text!r}")

    prompt, contents = row["prompt"], [response["content"] for response in row["responses"]]
    if isinstance(prompt, str):
        return tokenizer(prompt).input_ids, [continuation(prompt, text) + [tokenizer.eos_token_id] for text in contents]
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    turns = []
    for content in contents:
        answer = {"role": "assistant", "content": content}
        whole = tokenizer.apply_chat_template([*prompt, answer], tokenize=False)
        turn, end, _ = whole.removeprefix(asked).rpartition(tokenizer.eos_token)
        turns.append(continuation(asked, turn + end))
    return plain(asked), turns
