"""Makes the texts and the tokenizers of tests/golden.

    python tests/python/golden_texts.py                            # data.jsonl, from the stories below
    python tests/python/golden_texts.py gsm8k_model_solutions.jsonl  # the tokenizers, trained on GSM8K

The file of GSM8K has a line per question, with `question` and `ground_truth`; nothing of it is kept but the merges.
"""

import json
import pathlib
import random
import sys
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from golden_models import GOLDEN

VOCABULARY = 640
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>"]
NUM_GROUPS = 24
NAMES = ["Ana", "Bo", "Chiara", "Dmitri", "Émile", "Fatou", "Gunnar", "Hana", "Iñigo", "Jun", "Kofi", "Lúcia"]
THINGS = ["jars of plum jam", "postcards", "tulip bulbs", "copper coins", "candles", "puzzle pieces", "loaves of rye bread"]
# A story with numbers a, b and c; the steps to its answer as (what is counted, left, sign, right), where 0 is the last result.
STORIES = [
    (
        "{name} packs {thing} into {a} boxes, {b} to a box. On the way to the fair {c} of them break. How many does {name} "
        "still have when the stall opens?",
        [("packed", "a", "*", "b"), ("left", 0, "-", "c")],
    ),
    (
        "A bus leaves the depot with {a} people. At the harbour {b} get on, and at the old mill {c} get off. How many people "
        "are on the bus when it reaches the lake?",
        [("after the harbour", "a", "+", "b"), ("after the mill", 0, "-", "c")],
    ),
    (
        "{name} reads {a} pages every evening from Monday to Sunday, and {b} more on Sunday morning. The book has {c} pages "
        "of notes that nobody reads. How many pages did {name} read that week?",
        [("evenings", "a", "*", "7"), ("in all", 0, "+", "b")],
    ),
    (
        "Tickets for the night train cost €{a} each. {name} buys {b} of them and pays €{c} for a parcel as well. How much is "
        "that in euros?",
        [("tickets", "a", "*", "b"), ("with the parcel", 0, "+", "c")],
    ),
    (
        "{name} owns {a} {thing} and wants to have {b} times as many. {c} are on their way by post. How many more does {name} "
        "need to find?",
        [("wanted", "a", "*", "b"), ("without those there are", 0, "-", "a"), ("to find", 0, "-", "c")],
    ),
    (
        "One tap fills {a} litres a minute, the other {b}. Both run for {c} minutes. How many litres is that?",
        [("a minute", "a", "+", "b"), ("in all", 0, "*", "c")],
    ),
]


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


def write_tokenizers(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [text for row in rows for text in (row["question"], row["ground_truth"])]
    for make in (byte_level, metaspace):
        name = "bytelevel" if make is byte_level else "metaspace"
        with tempfile.TemporaryDirectory() as folder:
            # As transformers writes it.
            PreTrainedTokenizerFast(tokenizer_object=make(texts)).save_pretrained(folder)
            written = (pathlib.Path(folder) / "tokenizer.json").read_bytes()
        (GOLDEN / "tokenizers" / f"{name}.json").write_bytes(written)


def work_out(steps, numbers, sign_of=lambda sign: sign):
    """The steps as lines, and the last result."""
    lines, result = [], 0
    value = {"a": numbers[0], "b": numbers[1], "c": numbers[2], "7": 7}
    for label, left, sign, right in steps:
        x, y, sign = (value[left] if left else result), value[right], sign_of(sign)
        result = {"+": x + y, "-": x - y, "*": x * y}[sign]
        lines.append((label, f"{x} {sign} {y}", result))
    return lines, result


def group(index, draw):
    """A story with four responses: worked out, short, with a wrong sign, and one that stops a step early."""
    text, steps = STORIES[index % len(STORIES)]
    name, thing = draw.choice(NAMES), draw.choice(THINGS)
    numbers = [draw.randrange(4, 30), draw.randrange(3, 13), draw.randrange(2, 12)]
    lines, answer = work_out(steps, numbers)
    swap = {"+": "-", "-": "+", "*": "+"}
    wrong_lines, wrong = work_out(steps, numbers, lambda sign: swap[sign])
    sentence = "{label}: {sum} = {result}".format
    whole = [sentence(label=label, sum=sum_, result=result) for label, sum_, result in lines]
    slip = [sentence(label=label, sum=sum_, result=result) for label, sum_, result in wrong_lines]
    responses = [
        ("Let us see, one thing after another.\n" + "\n".join(whole) + f"\nSo the answer is {answer}.", answer),
        (f"In one line, since the rest is easy to do in the head: {lines[-1][1]} = {answer}. Done!", answer),
        ("First I write down what I know. " + "; ".join(slip) + f" → {wrong}", wrong),
        (f"{whole[0]}.\nThere is nothing more to count here, I think, and that makes {lines[0][2]}.", lines[0][2]),
    ]
    responses = [{"content": content, "reward": reward(content, found == answer)} for content, found in responses]
    draw.shuffle(responses)
    prompt = text.format(name=name, thing=thing, a=numbers[0], b=numbers[1], c=numbers[2])
    return {"prompt": prompt, "responses": responses}


def reward(content, is_correct):
    """1 if correct, and a small term of length, which makes ties rare."""
    return round(float(is_correct) + 1.0 / (10 + len(content)), 6)


def main():
    if sys.argv[1:]:
        write_tokenizers(pathlib.Path(sys.argv[1]))
        return
    draw = random.Random(20)
    lines = [json.dumps(group(index, draw), ensure_ascii=False) + "\n" for index in range(NUM_GROUPS)]
    (GOLDEN / "data.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
