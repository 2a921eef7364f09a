"""The rows that every check trains on and scores."""

import json

_PEOPLE = ["Ana", "Béla", "Chidi", "Dorota", "Emil", "Fatou"]
_THINGS = ["apples", "pens", "stamps", "coins", "shells", "cards"]


def groups():
    """Six prompts with three responses each and their rewards: texts and messages in turns."""
    rows = []
    for index, (person, things) in enumerate(zip(_PEOPLE, _THINGS)):
        boxes, each = 3 + index, 12 - index
        question = f"{person} has {boxes} boxes with {each} {things} in each.  How many {things} are that?"
        total = boxes * each
        contents = [
            f"Each of the {boxes} boxes has {each} {things}, so that {boxes} × {each} = {total}.\nA: {total}",
            f"{person} has {boxes} boxes and {each} {things}: {boxes} + {each} = {boxes + each}.\nA: {boxes + each}",
            "I don't know… ask somebody else 🙂",
        ]
        responses = [{"content": content, "reward": reward} for content, reward in zip(contents, [1.0, 0.25, 0.0])]
        rows.append({"prompt": question if index % 2 == 0 else _messages(question, index), "responses": responses})
    return rows


def _messages(question, index):
    """A conversation; every second one opens with a system message."""
    user = [{"role": "user", "content": question}]
    return user if index % 4 == 1 else [{"role": "system", "content": "Answer with a number."}, *user]


def texts():
    """All that the rows say, for a tokenizer to learn from."""
    for row in groups():
        prompt = row["prompt"]
        yield from [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]
        yield from (response["content"] for response in row["responses"])


def write(path):
    """Writes the rows as Collimate reads them."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in groups()), encoding="utf-8")
