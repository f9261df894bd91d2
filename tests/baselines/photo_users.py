"""Users with texts and photos for the systems that read both."""

import torch

from mmprofile import MMProfileProcessor, ProfileSchema
from systems.presets import tiny_processor

TEXTS = ("the pizza was great", "loud music, and the waiter was late")
PHOTO = 16  # pixels
PROFILES = [
    "Stars: 4 | Favorite Category: Pizza, Coffee & Tea | Preferred Meal: Dinner | Budget Range: Low"
    " | Discount Preference: True | Service Preference: False",
    "Stars: 1 | Favorite Category: Shopping, Pizza | Preferred Meal: Lunch | Budget Range: High"
    " | Discount Preference: False | Service Preference: True",
]


def photo_processor(**options) -> MMProfileProcessor:
    return tiny_processor(TEXTS, ProfileSchema(), vocab_size=400, image_size=PHOTO, **options)


def photo_model(system, processor, seed: int = 0):
    """Of random weights, in evaluation mode, configured as the wiring does."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = system.tiny(processor).eval()
    model.prepare(processor)
    model.config.system, model.config.profile_schema = system.name, processor.profile_schema.to_list()
    model.config.paradigm, model.config.objectives = "multimodal", ["fusion"]
    return model


def users(processor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Inputs and targets of two users: one with two photos and a gap between them, one with none and a longer text."""
    inputs = processor.pad_text([processor.encode_text([text]) for text in TEXTS])
    inputs["pixel_values"] = torch.randn(2, 3, 3, PHOTO, PHOTO, generator=torch.Generator().manual_seed(1))
    inputs["image_mask"] = torch.tensor([[True, False, True], [False, False, False]])
    return inputs, {"labels": processor.encode_targets([ProfileSchema().parse(text) for text in PROFILES])}


def text_alone(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}
