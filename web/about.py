"""What the page says of its model, from the model's card, and of itself on the Hub."""

import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from huggingface_hub import metadata_load
from PIL import Image, ImageOps
from transformers.utils.hub import cached_file

HUB = "https://huggingface.co"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
LIMITS = """The profile is a guess: it says what a person's reviews resemble, and knows no more than its training data.
For other texts, languages and places it is worse than its numbers say. It is no ground for a decision about anyone."""
UNKNOWN_DATA = "Its card does not say on what data it was trained."


def read_card(model_id: str, revision: str | None = None) -> dict:
    """What the header of a model's README says; empty if there is none that can be read."""
    try:
        path = cached_file(model_id, "README.md", revision=revision)
        return (path and metadata_load(path)) or {}
    except Exception:  # of YAML, the disk or the Hub: the page runs without
        return {}


def render_about(model_id: str, revision: str | None, card: Mapping) -> str:
    """The model, its data, how right it is and its limits, as HTML.

    Args:
        model_id: a folder or a Hub name, which becomes a link; of a folder only the name is shown.
        revision: of a Hub name.
        card: as `read_card` returns it; whatever stands there is escaped.
    """
    on_hub = REPOSITORY.fullmatch(model_id) and not Path(model_id).is_dir()
    name = model_id if on_hub else Path(model_id).resolve().name
    at = f" at {escape(revision)}" if revision else ""
    model = _link(name, f"{HUB}/{name}/tree/{revision}" if revision else f"{HUB}/{name}") if on_hub else escape(name)
    data, figures = _results(card)
    more = f" {_link('The card', f'{HUB}/{name}')} says more." if on_hub else " The model's README.md says more."
    return f'<p>The model is <b>{model}</b>{at}. {data}{figures}</p><p id="limits">{LIMITS}{more}</p>'


def _results(card: Mapping) -> tuple[str, str]:
    """Sentences on the data and on the figures of a card; the second may be empty."""
    try:
        result = card["model-index"][0]["results"][0]
        dataset = str(result["dataset"]["name"])
        kind = str(result["dataset"].get("type", ""))
        scores = {str(entry["name"]): float(entry["value"]) for entry in result["metrics"] if entry["type"] == "f1"}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return UNKNOWN_DATA, ""
    shown = _link(dataset, f"{HUB}/datasets/{kind}") if REPOSITORY.fullmatch(kind) else escape(dataset)
    data = f"It was trained on <b>{shown}</b>."
    of_attributes = {
        match[1]: score for name, score in scores.items() if (match := re.search(r"Macro-F1, (.+) \(percent\)", name))
    }
    average = of_attributes.pop("average", None)
    if average is None or not of_attributes:
        return data, ""
    worst = min(of_attributes, key=lambda name: of_attributes[name])
    return data, (
        f" On users of these data that it had not seen it reached a Macro-F1 of {average:.0f} out of 100 on average,"
        f" least for {escape(worst)}, {of_attributes[worst]:.0f}."
    )


def save_thumbnail(photos: Sequence[Image.Image], path: str | os.PathLike) -> None:
    """Three photos side by side, as large as the Hub shows a link: 1200 x 630 pixels."""
    picture = Image.new("RGB", (1200, 630), "white")
    for index, photo in enumerate(photos[:3]):
        picture.paste(ImageOps.fit(photo.convert("RGB"), (392, 622)), (4 + 400 * index, 4))
    picture.save(path, "JPEG", quality=85)


def _link(text: str, address: str) -> str:
    return f'<a href="{escape(address)}" target="_blank" rel="noopener">{escape(text)}</a>'
