"""A tiny model behind its handler, and a user who asks it."""

import importlib.util
import random
import sys

from tests.malformed_requests import base64_photo
from tests.tiny_folder import save_tiny_folder

USER = {"reviews": ["great pizza", "cold soup"], "images": [], "captions": ["a cake", None]}


def user_with_photos(count: int = 2) -> dict:
    rng = random.Random(0)
    return USER | {"images": [base64_photo(rng) for _ in range(count)]}


def load_handler(folder):
    """What the server does with a repository."""
    spec = importlib.util.spec_from_file_location("custom_handler", folder / "handler.py")
    module = sys.modules["custom_handler"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def served(folder, **fields):
    """The handler of a model with these fields of its configuration."""
    save_tiny_folder(folder, **fields)
    return load_handler(folder)
