"""Makes the token ids that crates/collimate-text/tests compares with, by transformers.

    python tests/python/text_fixtures.py

continuations.json   prompts and responses under tokenizers that put a space before a text, or before some texts: the ids of
                     a response follow the prompt's when both are encoded as one text. Where a token would reach across the
                     boundary ("across"), they are those after a line break, or after a colon.
added_tokens.json    tokens that files beside tokenizer.json add, in every way that transformers reads
"""

import copy
import json
import pathlib
import tempfile

import transformers

from golden_models import GOLDEN

FIXTURES = pathlib.Path(__file__).parent.parent.parent / "crates" / "collimate-text" / "tests" / "fixtures"
TOKENIZERS = {name: json.loads((GOLDEN / "tokenizers" / f"{name}.json").read_text()) for name in ("metaspace", "bytelevel")}


def write(name, value):
    (FIXTURES / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def folder(tokenizer, files):
    made = pathlib.Path(tempfile.mkdtemp())
    for name, value in ({"tokenizer.json": tokenizer} | files).items():
        (made / name).write_text(json.dumps(value))
    return made


# --- continuations ----------------------------------------------------------------------------------------------------


def metaspace(scheme, split=False):
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    return {"normalizer": None, "pre_tokenizer": step}


REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
VARIANTS = {
    "prepend_normalizer": {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]},
        "pre_tokenizer": None,
    },
    "metaspace_first": metaspace("first"),
    "metaspace_always": metaspace("always"),
    "metaspace_never": metaspace("never"),
    "metaspace_first_split": metaspace("first", True),
    "metaspace_of_old_files": {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
    },
    "byte_level": None,
    "byte_level_with_prefix": "add_prefix_space",
}
TEMPLATES = {
    "inst": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ '<<SYS>>' + m['content'] + '<</SYS>>' }}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}"
    "{% endif %}{% endfor %}",
    "zephyr": "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}",
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "bare": "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}",
}
CHATS = [
    [("user", "What is 7 + 5?")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello there."), ("user", "Two\nlines?")],
]
TEXTS = ["7 + 5 =", "Answer:\n", "Answer: ", "He has", "<|im_start|>", "12"]
RESPONSES = ["It is 12.", " 12", "\nso 12", "12 <|im_start|> 13", "größe ▁ 日本"]


def changed(variant):
    """Name and content of a tokenizer with the changes of a variant."""
    if isinstance(variant, dict):
        return "metaspace", TOKENIZERS["metaspace"] | variant
    tokenizer = copy.deepcopy(TOKENIZERS["bytelevel"])
    for step in tokenizer["pre_tokenizer"].get("pretokenizers", [tokenizer["pre_tokenizer"]]):
        if step["type"] == "ByteLevel" and variant:
            step[variant] = True
    return "bytelevel", tokenizer


def after(encode, before, text):
    head, joint = encode(before), encode(before + text)
    return joint[len(head) :] if joint[: len(head)] == head else None


def continued(encode, prompt, responses):
    """Ids of a prompt and its responses, and which of these a token would join with the prompt."""
    made = {"prompt_ids": encode(prompt), "response_ids": [], "across": []}
    for number, response in enumerate(responses):
        tries = [after(encode, before, response) for before in (prompt, "\n", ":")]
        made["response_ids"].append(next(ids for ids in tries if ids is not None))
        if tries[0] is None:
            made["across"].append(number)
    return made


def rendered(tokenizer, template, turns):
    """A chat's prompt, and what the template adds for each response."""
    messages = [{"role": role, "content": content} for role, content in turns]
    render = lambda messages, asks: tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=asks
    )
    prompt = render(messages, True)
    whole = [render(messages + [{"role": "assistant", "content": response}], False) for response in RESPONSES]
    assert all(text.startswith(prompt) for text in whole)
    return prompt, [text[len(prompt) :] for text in whole]


def continuations():
    variants = []
    for name, variant in VARIANTS.items():
        base, tokenizer_json = changed(variant)
        ends = {"bos_token": "<s>", "eos_token": "</s>"} if base == "metaspace" else {"eos_token": "<|im_end|>"}
        config = ends | {"tokenizer_class": "PreTrainedTokenizerFast"}
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
            folder(tokenizer_json, {"tokenizer_config.json": config})
        )
        encode = lambda special: lambda text: tokenizer(text, add_special_tokens=special)["input_ids"]
        texts = [continued(encode(True), text, RESPONSES) for text in TEXTS]
        chats = {
            template: [continued(encode(False), *rendered(tokenizer, source, chat)) for chat in CHATS]
            for template, source in TEMPLATES.items()
        }
        changes = {field: tokenizer_json[field] for field in ("normalizer", "pre_tokenizer")}
        variants.append({"name": name, "base": base, "changes": changes, "config": config, "texts": texts, "chats": chats})
    chats = [[{"role": role, "content": content} for role, content in chat] for chat in CHATS]
    return {"templates": TEMPLATES, "chats": chats, "texts": TEXTS, "responses": RESPONSES, "variants": variants}


# --- added tokens -----------------------------------------------------------------------------------------------------

TEXT = "a <note> b <mark>c <|im_start|> the<|im_end|>"
NEXT = str(len(TOKENIZERS["bytelevel"]["model"]["vocab"]))
NAMES = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "pad_token": "<|endoftext|>"}
MAP, ADDED = "special_tokens_map.json", "added_tokens.json"


def token(content, **settings):
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False}
    return {"content": content} | plain | settings


NOTE = token("<note>", special=True)
# Fields of tokenizer_config.json, and further files.
WAYS = {
    "decoder": ({"added_tokens_decoder": {NEXT: NOTE}}, {}),
    "decoder_plain": ({"added_tokens_decoder": {NEXT: token("<note>", normalized=True)}}, {}),
    "decoder_strips": ({"added_tokens_decoder": {NEXT: NOTE | {"lstrip": True, "rstrip": True}}}, {}),
    "decoder_leaves_a_gap": ({"added_tokens_decoder": {"645": NOTE}}, {}),
    "decoder_out_of_order": ({"added_tokens_decoder": {"641": token("<mark>", special=True), NEXT: token("<note>")}}, {}),
    "decoder_changes_a_token": ({"added_tokens_decoder": {"1": token("<|im_start|>", special=True, rstrip=True)}}, {}),
    "decoder_replaces_other_files": (
        {"added_tokens_decoder": {NEXT: NOTE}},
        {MAP: {"pad_token": "<mark>", "additional_special_tokens": ["<mark>"]}, ADDED: {"<mark>": 641}},
    ),
    "additional": ({"additional_special_tokens": ["<note>", "<mark>"]}, {}),
    "extra": ({"extra_special_tokens": ["<mark>", "<note>"]}, {}),
    "extra_and_additional": ({"extra_special_tokens": ["<mark>"], "additional_special_tokens": ["<note>"]}, {}),
    "extra_by_name": ({"extra_special_tokens": {"note_token": "<note>", "mark_token": "<mark>"}}, {}),
    "own_name": ({"note_token": "<note>"}, {}),
    "additional_in_map": ({}, {MAP: {"additional_special_tokens": ["<note>"]}}),
    "additional_in_both": ({"additional_special_tokens": ["<mark>"]}, {MAP: {"additional_special_tokens": ["<note>"]}}),
    "extra_in_both": ({"extra_special_tokens": ["<mark>"]}, {MAP: {"extra_special_tokens": ["<note>", "<mark>"]}}),
    "map_replaces_a_name": ({}, {MAP: {"pad_token": {"content": "<note>", "lstrip": True, "normalized": False}}}),
    "added_file": ({}, {ADDED: {"<note>": 640}}),
    "added_file_two": ({}, {ADDED: {"<mark>": 643, "<note>": 641}}),
    "added_file_named": ({"additional_special_tokens": ["<note>"]}, {ADDED: {"<note>": 640}}),
    "added_file_of_a_taken_id": ({}, {ADDED: {"<note>": 2}}),
    "pad_unknown": ({"pad_token": "<note>"}, {}),
    "pad_of_the_vocabulary": ({"pad_token": "Ġthe"}, {}),
    "name_makes_special": ({"added_tokens_decoder": {NEXT: token("<note>")}, "unk_token": "<note>"}, {}),
    "split": ({"split_special_tokens": True}, {}),
    "bos_off": ({"add_bos_token": False}, {}),
    "eos_on": ({"add_bos_token": True, "add_eos_token": True}, {}),
    "object_with_type": ({"mask_token": {"__type": "AddedToken"} | token("<note>", rstrip=True)}, {}),
}


def with_bos(tokenizer):
    """A tokenizer that begins a text with <|im_start|>."""
    bos, text = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    special = {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}
    pair = [text, {"Sequence": {"id": "B", "type_id": 1}}]
    processor = {"type": "TemplateProcessing", "single": [bos, text], "pair": pair, "special_tokens": special}
    return tokenizer | {"post_processor": processor}


def added_tokens():
    without = TOKENIZERS["bytelevel"] | {"post_processor": None}
    cases = []
    for puts_bos in (None, with_bos(without)["post_processor"]):
        for name, (fields, files) in WAYS.items():
            config = NAMES | fields | {"tokenizer_class": "PreTrainedTokenizerFast"}
            files = {"tokenizer_config.json": config} | files
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder(without | {"post_processor": puts_bos}, files))
            ids = tokenizer(TEXT)["input_ids"]
            named = {name: tokenizer.convert_tokens_to_ids(text) for name, text in tokenizer.special_tokens_map.items()}
            case = {"name": name, "post_processor": puts_bos, "files": files, "ids": ids, "named": named}
            cases.append(case | {"without_special": tokenizer.decode(ids, skip_special_tokens=True)})
    return {"text": TEXT, "cases": cases}


if __name__ == "__main__":
    write("continuations.json", continuations())
    write("added_tokens.json", added_tokens())
