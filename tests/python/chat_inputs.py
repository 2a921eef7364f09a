"""Renders conversations with tools, calls, reasoning, parts and variables by transformers' apply_chat_template.

    python3 tests/python/chat_inputs.py crates/collimate-chat/tests/fixtures/chat_inputs.json

The Rust test `chat_inputs` compares its own renderings with the file. Templates and conversations are written here.
"""

import json
import sys

import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

TEMPLATES = {
    "calls": """{%- if tools %}<|im_start|>tools
{{ tools | tojson }}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content if m.content else '' }}
{%- for c in (m.tool_calls or []) %}<call>{{ (c.function or c) | tojson }}</call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    "thinking": """{%- for m in messages -%}
[{{ m['role'] }}{% if m.name is defined %} {{ m.name }}{% endif %}]
{%- if m.thinking is defined %}({{ m.thinking }}){% endif %}
{%- if m.content is string %}{{ m.content }}{% elif m.content is iterable %}{% for p in m.content %}{{ p.text }}+{% endfor %}{% else %}nothing{% endif %}
{%- if m.tool_calls is defined %}{% for c in m.tool_calls %}{% set f = c.function if c.function is defined else c %}<{{ f.name }}
{%- for k, v in f.arguments.items() %} {{ k }}={{ v if v is string else v | tojson }}{% endfor %}>{% endfor %}{% endif %}
{%- endfor -%}
{%- if add_generation_prompt %}[assistant]{% if enable_thinking is defined and not enable_thinking %}(){% endif %}{% endif %}""",
    "whole": "{% for m in messages %}{{ m }}|{{ m | tojson(indent=2) }}\n{% endfor %}{{ tools }}{{ eos_token }}{{ flag }}",
    "forbidding": """{% if tools is not none and tools | length > 1 %}{{ raise_exception('one tool only') }}{% endif %}
{%- for m in messages %}{{ m.role }}:{{ m.content }};{% for t in tools or [] %}{{ t.function.name }},{% endfor %}{{ m.tool_calls }}{{ m.reasoning_content }}{% endfor %}""",
    "two": [
        {"name": "default", "template": "{% for m in messages %}{{ m.role }}={{ m.content }} {% endfor %}"},
        {"name": "tool_use", "template": "T{{ tools | length }} {% for m in messages %}{{ m.role }}={{ m.content }} {{ m.tool_calls | default('-') }} {% endfor %}"},
    ],
}

CLOCK = {"type": "function", "function": {"name": "clock", "description": "time of a town", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": {"town": "Oslo", "exact": True, "offset": 1.5, "more": None, "list": [1, "é \"x\" 'y'"]}}}
USER = {"role": "user", "content": "What time is it in Oslo?"}

CHATS = {
    "plain": {"messages": [USER]},
    "tools": {"messages": [USER], "tools": [CLOCK]},
    "two tools": {"messages": [USER], "tools": [CLOCK, ADD]},
    "no tools": {"messages": [USER], "tools": []},
    "call": {"messages": [USER, {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}], "tools": [CLOCK]},
    "null content": {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "name": "clock", "tool_call_id": "c1", "content": "14:05"}]},
    "no content": {"messages": [USER, {"role": "assistant", "tool_calls": [CALL, CALL]}]},
    "null fields": {"messages": [{"role": "user", "content": "a", "tool_calls": None, "name": None}]},
    "reasoning_content": {"messages": [USER, {"role": "assistant", "content": "4", "reasoning_content": "two and two"}]},
    "thinking": {"messages": [USER, {"role": "assistant", "content": "4", "thinking": "two and two"}]},
    "reasoning": {"messages": [USER, {"role": "assistant", "content": "4", "reasoning": "two and two"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "it's 2?"}]}]},
    "variables": {"messages": [USER], "kwargs": {"enable_thinking": False, "flag": {"a": [1, None, True]}}},
    "overridden": {"messages": [USER], "tools": [CLOCK], "kwargs": {"tools": [ADD], "eos_token": "!"}},
}


def main():
    vocabulary = {"<unk>": 0, "</s>": 1}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>")), eos_token="</s>")
    cases = []
    for name, template in TEMPLATES.items():
        tokenizer.chat_template = {t["name"]: t["template"] for t in template} if isinstance(template, list) else template
        for chat, given in CHATS.items():
            for prompts in (False, True):
                case = {"template": name, "chat": chat, "add_generation_prompt": prompts, "text": None}
                arguments = {"tools": given.get("tools"), **given.get("kwargs", {})}
                try:
                    case["text"] = tokenizer.apply_chat_template(given["messages"], tokenize=False, add_generation_prompt=prompts, **arguments)
                except Exception as error:
                    print(name, chat, type(error).__name__, error)
                cases.append(case)
    written = {"transformers": transformers.__version__, "templates": TEMPLATES, "chats": CHATS, "cases": cases}
    with open(sys.argv[1], "w") as file:
        json.dump(written, file, ensure_ascii=False, indent=1)
        file.write("\n")


main()
