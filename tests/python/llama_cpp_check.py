#!/usr/bin/env python3
"""Loads GGUF files with llama.cpp itself and compares what it computes with transformers.

    llama_cpp_check.py MODEL_DIR FILE.gguf [FILE.gguf ...]

Checked are token ids of some texts, the text that the chat template makes of a conversation and its ids, and the log-probs of
every next token after prefixes of several lengths. Every file is of the one model, in the type that its matrices have. One
line a file; the exit code is 1 where anything differs. Needs: xllamacpp, torch, transformers.
"""

import json
import os
import random
import sys
import urllib.request
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
import xllamacpp  # noqa: E402

# The largest difference of any next token's log-prob, in nats, by the type of the matrices, with what was found for the
# golden models, whose weights are random and large: errors are larger than those of a trained model.
LIMITS = {
    # Found: 2.3e-5.
    "F32": 1e-4,
    # Activations are rounded to float16 too. Found: 7.2e-2.
    "F16": 2e-1,
}
WINDOWED = ("gemma2", "gemma3_text", "olmo3")
TANH = ("gemma2", "gemma3_text")
# llama.cpp looks tanh's GELU up in a table of float16. Found: 1.8e-3.
GELU = 5e-3
PREFIXES = (1, 2, 5, 12, 20, 33, 60)
TEXTS = (
    "Hello there, 12 apples (and émigrés) don't grow — 3.14\n\n  on trees!",
    "naïve 東京 🙂\ttabs,   spaces and 1234567890\r\nlines",
    "x",
)
CHAT = (
    {"role": "user", "content": "How many  are 3 and 4?"},
    {"role": "assistant", "content": "Seven."},
    {"role": "user", "content": "And 5?"},
)


class Served:
    """A file that llama.cpp has loaded, computing in float32 where it can."""

    def __init__(self, path):
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = 128, 1, 0
        params.warmup, params.verbosity, params.cpuparams.n_threads = False, -1, 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)

    def ask(self, path, **body):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.server.listening_address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def ids(self, text):
        return self.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]

    def next_logps(self, ids, vocab_size):
        """Log-probs of all tokens by id, or nothing where the likeliest is part of a character, which it does not tell."""
        answer = self.ask(
            "/completion",
            prompt=ids,
            n_predict=1,
            n_probs=vocab_size,
            temperature=0.0,
            post_sampling_probs=False,
            cache_prompt=False,
        )
        told = answer.get("completion_probabilities")
        return told and {token["id"]: token["logprob"] for token in told[0]["top_logprobs"]}


class Reference:
    """The model as transformers computes it, and its tokenizer as the file has it: AutoTokenizer changes some."""

    def __init__(self, folder):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        self.config = self.model.config
        split = json.loads((folder / "tokenizer.json").read_text())["pre_tokenizer"] or {}
        # Then a space goes before a text's first word; llama.cpp puts one after every special token, as the export says.
        self.prefixes_text_only = split.get("prepend_scheme") == "first"

    def next_logps(self, ids):
        with torch.no_grad():
            return self.model(torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)

    def window(self):
        """Tokens up to which llama.cpp computes the same; it has windows for some families alone."""
        windowed = self.config.model_type not in WINDOWED and getattr(self.config, "use_sliding_window", True)
        return (getattr(self.config, "sliding_window", None) if windowed else None) or max(PREFIXES)


def differences(path, reference, limit):
    """The differences, as lines, and the largest difference of a log-prob."""
    served, tokenizer, problems = Served(path), reference.tokenizer, []
    for text in TEXTS:
        expected, found = tokenizer(text).input_ids, served.ids(text)
        if found != expected:
            problems.append(f"ids of {text!r}: {found}, not {expected}")
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    found = served.ask("/apply-template", messages=CHAT)["prompt"]
    # llama.cpp takes a first token that it puts there itself out of the text.
    if found != text and (tokenizer.bos_token or "") + found != text:
        problems.append(f"chat template: {found!r}, not {text!r}")
    expected = tokenizer(text, add_special_tokens=False).input_ids
    if served.ids(found) != expected and not reference.prefixes_text_only:
        problems.append(f"ids of the conversation: {served.ids(found)}, not {expected}")
    size, draw, largest, count = reference.config.vocab_size, random.Random(1), 0.0, 0
    ids = [draw.randrange(size) for _ in range(max(PREFIXES))]
    expected = reference.next_logps(ids)
    for length in (length for length in PREFIXES if length <= reference.window()):
        found = served.next_logps(ids[:length], size)
        count += bool(found)
        for token, logp in (found or {}).items():
            largest = max(largest, abs(logp - expected[length - 1, token].item()))
    if count < 2:
        problems.append(f"{count} prefixes could be compared")
    if limit is not None and not largest <= limit:
        problems.append(f"log-probs are {largest:.1e} apart, more than {limit}")
    return problems, largest, count


def main(arguments):
    if len(arguments) < 2:
        raise SystemExit(__doc__)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    reference, failed = Reference(Path(arguments[0])), False
    for path in arguments[1:]:
        stored = Path(path).stem.upper()
        limit = LIMITS.get(stored)
        if limit is not None and reference.config.model_type in TANH:
            limit = max(limit, GELU)
        problems, largest, count = differences(path, reference, limit)
        print(f"{'FAILED' if problems else 'ok'}  {path}: log-probs after {count} prefixes at most {largest:.1e} apart")
        for problem in problems:
            print(f"    {problem[:400]}")
        failed |= bool(problems)
    sys.stdout.flush()
    raise SystemExit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
