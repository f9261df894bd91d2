"""Systems of tiny random weights, and users for them."""

import functools
from types import SimpleNamespace

import pytest
import torch

from baselines.table import SYSTEMS
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from training.batching import JointCollator, UserExamples, undecoded
from training.model import describe_system
from training.objectives import select_views

OTHERS = [name for name in SYSTEMS if name != "mmprofile"]
SEEING = [name for name in OTHERS if SYSTEMS[name].sees_photos]
BLIND = [name for name in OTHERS if not SYSTEMS[name].sees_photos]
FAST = ("bart", "llava", "coopnet")  # one of each kind, tried at once; all others with the slow tests
IMAGE_SIZE = 64


def by_kind(names: list[str]) -> list:
    """Parameters of a test."""
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


@functools.cache
def processor_of_users():
    texts = [review["text"] for row in tiny_dataset(4)["reviews"] for review in row]
    return tiny_processor(texts, SCHEMA, vocab_size=400, image_size=IMAGE_SIZE, max_text_tokens=120)


def tiny_model(name: str, seed: int = 0, paradigm: str | None = None):
    """The system's tiny preset as train.py makes it, in evaluation mode."""
    system, processor = SYSTEMS[name], processor_of_users()
    options = {"fusion": "gated", "vision_feature": "cls"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = system.tiny(processor, **{taken: options[taken] for taken in system.takes})
    views = views_of(name, paradigm)
    flags = {"system": name, "paradigm": paradigm or system.own_paradigm, "views": views, "num_beams": 2}
    of_views = {"combination": "product", "view_reviews": 3, "decide_views": lambda *_: None}
    describe_system(model, processor, SimpleNamespace(**flags, **of_views))
    return model.eval()


def views_of(name: str, paradigm: str | None = None, objectives=("fusion", "text", "mask_image", "mask_profile")):
    return select_views(paradigm or SYSTEMS[name].own_paradigm, objectives)


def examples_of(number: int, photos: int = 1) -> list:
    """Users with other numbers of words; every third has no photo, unless `photos` is 0, then none has."""
    rows = undecoded(tiny_dataset(number, photos=2))
    examples = UserExamples(rows, SCHEMA, num_reviews=2, num_images=photos, seed=0)
    found = [examples[row] for row in range(number)]
    for example in found[::3]:
        example.images, example.captions, example.photo_names = [], [], []
    return found


def batch_of(name: str, examples: list, paradigm: str | None = None) -> dict:
    """As a training step of the system gets it."""
    classes = SYSTEMS[name].needs_classes
    return JointCollator(processor_of_users(), views_of(name, paradigm), 0.5, 0.5, with_classes=classes)(examples)
