"""Makes the tokenizers and the data of tests/golden from GSM8K's example model solutions.

    python tests/python/golden_texts.py gsm8k_model_solutions.jsonl

The file has one line per question: `question`, `ground_truth`, and for each of four models `solution` and `is_correct`.
"""

import json
import pathlib
import sys
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from golden_models import GOLDEN

VOCABULARY = 640
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>"]
NUM_GROUPS = 24


def byte_level(texts):
    """BPE on bytes, as Llama 3, Qwen, Phi and OLMo have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def metaspace(texts):
    """BPE on text with ▁ for spaces, byte fallback and BOS, as Mistral has it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    single_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL + single_bytes)
    tokenizer.train_from_iterator(texts, trainer)
    bos = [("<s>", tokenizer.token_to_id("<s>"))]
    pair = "<s> $A <s> $B"
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair=pair, special_tokens=bos)
    return tokenizer


def groups(rows):
    """Short prompts with four responses: 1 if correct, and a small term of length that makes ties rare."""
    for row in rows:
        solutions = [row[key] for key in row if key not in ("question", "ground_truth")]
        responses = [{"content": s["solution"], "reward": reward(s)} for s in solutions]
        if len(row["question"]) < 220 and all(0 < len(response["content"]) < 260 for response in responses):
            yield {"prompt": row["question"], "responses": responses}


def reward(solution):
    return round(float(solution["is_correct"]) + 1.0 / (10 + len(solution["solution"])), 6)


def main():
    rows = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    texts = [text for row in rows for text in (row["question"], row["ground_truth"])]
    for make in (byte_level, metaspace):
        name = "bytelevel" if make is byte_level else "metaspace"
        with tempfile.TemporaryDirectory() as folder:
            # As transformers writes it.
            PreTrainedTokenizerFast(tokenizer_object=make(texts)).save_pretrained(folder)
            written = (pathlib.Path(folder) / "tokenizer.json").read_bytes()
        (GOLDEN / "tokenizers" / f"{name}.json").write_bytes(written)
    chosen = [json.dumps(group, ensure_ascii=False) + "\n" for group, _ in zip(groups(rows), range(NUM_GROUPS))]
    (GOLDEN / "data.jsonl").write_text("".join(chosen), encoding="utf-8")


if __name__ == "__main__":
    main()
