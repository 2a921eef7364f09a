"""PyTorch's side of the benchmark of images in prompts: the published recipe of `step.py` on a Qwen2-VL.

Every response stands with a copy of its prompt and of its image, as the published trainers' collators lay them out: the tower sees an
image K times for the policy and K times for the reference. Images are decoded and cut into patches before the first step, outside of
the time.
"""

from contextlib import contextmanager, nullcontext

import torch
import transformers
from torch import nn

import step as published
from entrant import groups_of_steps, optimizer_of, serve, settings, with_adapter

IMAGE = settings["image_id"]
PATCHES = {name: torch.load(path) for name, path in settings["patches"].items()}


class WithImages(nn.Module):
    """A model whose calls are those of a model of text; the images of the step's groups are put beside it."""

    def __init__(self, model):
        super().__init__()
        self.model, self.images = model, ()

    def forward(self, input_ids, attention_mask, use_cache):
        patches, grids = zip(*(PATCHES[name] for name in self.images), strict=True)
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache, mm_token_type_ids=(input_ids == IMAGE).long(),
            pixel_values=torch.cat(patches), image_grid_thw=torch.cat(grids),
        )


def load():
    return transformers.Qwen2VLForConditionalGeneration.from_pretrained(
        settings["model"], dtype=torch.float32, attn_implementation="sdpa"
    )


def main():
    model = WithImages(with_adapter(load()))
    if settings["adapter"]:

        @contextmanager
        def reference_pass():
            with model.model.disable_adapter():  # the same weights
                yield model

        both = [model]
    else:
        frozen = WithImages(load()).requires_grad_(False)

        def reference_pass():
            return nullcontext(frozen)

        both = [model, frozen]

    model.train()
    optimizer, steps = optimizer_of(model), groups_of_steps()

    def take(number):
        for each in both:
            each.images = [group["image"] for group in steps[number] for _ in group["responses"]]
        return published.step(model, reference_pass, optimizer, steps[number])

    serve(take)


if __name__ == "__main__":
    main()
