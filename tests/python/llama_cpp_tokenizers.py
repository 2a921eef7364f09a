#!/usr/bin/env python3
"""Exports models with tokenizers of every kind that can be written, and compares llama.cpp's tokens of many texts.

    llama_cpp_tokenizers.py COLLIMATE FOLDER

Prints one line per tokenizer; the exit code is 1 if anything differs. Needs: xllamacpp, torch, transformers, tokenizers.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers  # noqa: E402
from tokenizers.pre_tokenizers import ByteLevel, Digits, Metaspace, Sequence, Split  # noqa: E402

import llama_cpp_check  # noqa: E402

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CASES = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = _SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Splits of published models before byte-level BPE, by llama.cpp's names, and whether whole words bypass the merges.
PATTERNS = {
    "llama-bpe": (_WORDS % "{1,3}", True),
    "dbrx": (_WORDS % "{1,3}", False),
    "qwen2": (_WORDS % "", False),
    "tekken": (f"{_CASES}|{_UPPER}" + r"|\p{N}" + _TAIL, True),
    "gpt-4o": (f"{_CASES}{_SHORT}?|{_UPPER}{_SHORT}?" + r"|\p{N}{1,3}" + _TAIL, False),
}
TRAINING = (
    "Don't I'll we've IT'S 1234 5678 naïve émigré über ÅÄÖ Привет мир 東京 camelCase HTTPServer snake_case\n",
    "The quick brown fox jumps over the lazy dog; she sells sea shells by the sea shore.\r\n\tif (x == 10) { y += 3; }\n\n",
)
TEXTS = (
    *llama_cpp_check.TEXTS,
    "trailing  ",
    "\n\n\n",
    "a\r\n\r\nb",
    "I'LL don't WE'VE it's 'S",
    "12345678 1.5e10 ½ Ⅷ ٣٤",
    "HTTPServer camelCase snake_case/x/y\n//",
    "Привет, мир! über-ÅÄÖ",
    "no\u00a0break\u3000wide e\u0301",
    "<|im_start|>user\nhi<|im_end|>",
    "\t\tif (x == 1) {\n\t\t}",
    "a b  c   d    e",
)


def texts():
    """The texts to compare: those above, and sixty of random characters."""
    draw = random.Random(0)
    alphabet = "abcXYZ  \n\t'1234.,!é東🙂_-/\u00a0Ωßд"
    return [*TEXTS, *("".join(draw.choices(alphabet, k=draw.randint(1, 40))) for _ in range(60))]


def by_bytes(split, ignore_merges=False):
    """A byte-level BPE with a split before it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    alphabet = ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def with_fallback(normalizer=None, split=None, added=()):
    """A BPE in SentencePiece's manner, whose unknown characters are bytes."""
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer, trained.pre_tokenizer = normalizers.Replace(" ", "▁"), Metaspace(prepend_scheme="never")
    special = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    # The way it was trained is not how it is used.
    file = json.loads(trained.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, split
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    return tokenizer


def all_kinds():
    """Tokenizers by name."""
    spaces = normalizers.Replace(" ", "▁")
    prepended = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    bytes_only = ByteLevel(add_prefix_space=False, use_regex=False)
    kinds = {
        name: by_bytes(Sequence([Split(Regex(pattern), "isolated"), bytes_only]), ignores)
        for name, (pattern, ignores) in PATTERNS.items()
    }
    split = ByteLevel(add_prefix_space=False)
    return kinds | {
        "gpt-2": by_bytes(split),
        "smollm": by_bytes(Sequence([Digits(individual_digits=True), split])),
        "spaces": with_fallback(spaces),
        "spaces and one before": with_fallback(prepended),
        "spaces and added tokens": with_fallback(spaces, added=["   ", "<tool>"]),
        "words": with_fallback(split=Metaspace(prepend_scheme="always", split=False)),
    }


def export(program, folder, tokenizer):
    """A model of one layer with the tokenizer, as a GGUF file."""
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
    )
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    wrapped.save_pretrained(folder)
    output = folder.with_suffix(".gguf")
    command = [program, "export", "--model", folder, "--outtype", "f32", "--output", output]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{folder.name}: {done.stderr}")
    return output, Tokenizer.from_file(str(folder / "tokenizer.json"))


def main(arguments):
    if len(arguments) != 2:
        raise SystemExit(__doc__)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    failed = False
    for name, tokenizer in all_kinds().items():
        output, tokenizer = export(arguments[0], Path(arguments[1]) / name.replace(" ", "-"), tokenizer)
        served = llama_cpp_check.Served(output)
        # Of a text that begins with a space llama.cpp makes more there, as the export says.
        compared = [text for text in texts() if name != "words" or not text.startswith((" ", "<|"))]
        wrong = [text for text in compared if served.ids(text) != tokenizer.encode(text).ids]
        print(f"{'FAILED' if wrong else 'ok'}  {name}: {len(compared)} texts", flush=True)
        for text in wrong[:3]:
            found = [tokenizer.id_to_token(token) for token in served.ids(text)]
            print(f"    {text!r}: {found}, not {tokenizer.encode(text).tokens}")
        failed |= bool(wrong)
    raise SystemExit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
