"""Renders every chat template that the installed trl brings, for the comparison with Collimate's renderings.

    python3 tests/python/trl_templates.py target/trl_templates.json
    COLLIMATE_TRL_TEMPLATES=$PWD/target/trl_templates.json cargo test -p collimate-chat --test trl_templates

Needs trl (or --templates with the folder of its .jinja files) and transformers. What is written holds trl's templates and
is under their license: it is not to be committed.
"""

import argparse
import datetime
import importlib.util
import json
import pathlib

import transformers
from transformers.utils import chat_template_utils

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is 7 * 8?"}
CHATS = {
    "user": [USER],
    "system_user": [SYSTEM, USER],
    "turns": [USER, {"role": "assistant", "content": "56"}, {"role": "user", "content": "Thanks.\n"}],
    "system_turns": [SYSTEM, USER, {"role": "assistant", "content": "56"}, {"role": "user", "content": "And 8 * 8?"}],
    "answered": [USER, {"role": "assistant", "content": "It is 56."}],
    "system_answered": [SYSTEM, USER, {"role": "assistant", "content": " 56 \n"}],
    "thoughts": [
        USER,
        {"role": "assistant", "content": "<think>\nseven eights\n</think>\n\n56"},
        {"role": "user", "content": "Größe \"quoted\" <b>&</b> 日本?"},
        {"role": "assistant", "content": "<think>more</think>ok"},
    ],
    "two_users": [USER, USER],
}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def folder_of_trl():
    spec = importlib.util.find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("trl is not installed; give the folder of its templates with --templates")
    return pathlib.Path(spec.submodule_search_locations[0]) / "chat_templates"


def rendering(template, messages, add_generation_prompt):
    chat_template_utils.datetime = Clock
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=template, add_generation_prompt=add_generation_prompt, **TOKENS
        )
        return {"text": texts[0]}
    except Exception as error:  # A template refuses in many ways.
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--templates", type=pathlib.Path)
    options = parser.parse_args()
    cases = []
    templates = sorted((options.templates or folder_of_trl()).glob("**/*.jinja"))
    for path in templates:
        template = path.read_text(encoding="utf-8")
        for chat, messages in CHATS.items():
            for add_generation_prompt in (False, True):
                cases.append({
                    "name": path.stem,
                    "chat": chat,
                    "template": template,
                    "messages": messages,
                    "add_generation_prompt": add_generation_prompt,
                    **rendering(template, messages, add_generation_prompt),
                })
    result = {
        "transformers": transformers.__version__,
        "now": NOW.isoformat(),
        "tokens": TOKENS,
        "num_templates": len(templates),
        "cases": cases,
    }
    options.output.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    refused = sum("error" in case for case in cases)
    print(f"{len(templates)} templates, {len(cases)} renderings, {refused} refused; {options.output}")


if __name__ == "__main__":
    main()
