"""What the page says of its model, from the model's card and results, and of itself on the Hub."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from huggingface_hub import metadata_load
from PIL import Image, ImageOps
from transformers.utils.hub import cached_file

HUB = "https://huggingface.co"
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
LIMITS = """The profile is a guess: it says what a person's reviews resemble, and knows no more than its training data.
For other texts, languages and places it is worse than its numbers say. It is no ground for a decision about anyone."""
UNKNOWN_DATA = "It does not say on what data it was trained."
RESULTS = "all_results.json"


def read_card(model_id: str, revision: str | None = None) -> dict:
    """What the header of a model's README says; empty if there is none that can be read."""
    try:
        path = cached_file(model_id, "README.md", revision=revision)
        return (path and metadata_load(path)) or {}
    except Exception:  # of YAML, the disk or the Hub: the page runs without
        return {}


def read_train_corpus(model_id: str, revision: str | None = None) -> dict:
    """What a run says of the corpus that it trained on, in its results beside the model; empty if it does not tell.
    The card's header has the corpus of the last evaluation, which may be another."""
    try:
        path = cached_file(model_id, RESULTS, revision=revision)
        corpus = json.loads(Path(path or "").read_text(encoding="utf-8"))["train_corpus"]
        return {name: str(corpus[name]) for name in ("name", "config", "dataset")}
    except Exception:  # as of the card
        return {}


def render_about(model_id: str, revision: str | None, card: Mapping, train_corpus: Mapping) -> str:
    """The model, its data, how right it is and its limits, as HTML.

    Args:
        model_id: a folder or a Hub name, which becomes a link; of a folder only the name is shown.
        revision: of a Hub name.
        card: as `read_card` returns it; whatever stands there is escaped.
        train_corpus: as `read_train_corpus` returns it; likewise.
    """
    on_hub = REPOSITORY.fullmatch(model_id) and not Path(model_id).is_dir()
    name = model_id if on_hub else Path(model_id).resolve().name
    at = f" at {escape(revision)}" if revision else ""
    model = _link(name, f"{HUB}/{name}/tree/{revision}" if revision else f"{HUB}/{name}") if on_hub else escape(name)
    data, figures = _data(train_corpus), _figures(card, train_corpus)
    more = f" {_link('The card', f'{HUB}/{name}')} says more." if on_hub else " The model's README.md says more."
    return f'<p>The model is <b>{model}</b>{at}. {data}{figures}</p><p id="limits">{LIMITS}{more}</p>'


def _data(train_corpus: Mapping) -> str:
    if not train_corpus:
        return UNKNOWN_DATA
    return f"It was trained on <b>{_corpus_link(train_corpus['name'], train_corpus['dataset'])}</b>."


def _figures(card: Mapping, train_corpus: Mapping) -> str:
    """A sentence on how right the model was, and on whom; empty if the card does not tell."""
    try:
        result = card["model-index"][0]["results"][0]
        tested, seen = result["dataset"], result["dataset"].get("split") == "train"
        link = _corpus_link(str(tested["name"]), str(tested.get("type")))
        scores = {str(entry["name"]): float(entry["value"]) for entry in result["metrics"] if entry["type"] == "f1"}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return ""
    of_attributes = {
        match[1]: score for name, score in scores.items() if (match := re.search(r"Macro-F1, (.+) \(percent\)", name))
    }
    average = of_attributes.pop("average", None)
    if average is None or not of_attributes:
        return ""
    worst = min(of_attributes, key=lambda name: of_attributes[name])
    users = f"users of <b>{link}</b>"
    if train_corpus and all(str(tested.get(name)) == train_corpus[name] for name in ("name", "config")):
        users = "the users that it was trained on" if seen else "users of these data that it had not seen"
    return (
        f" On {users} it reached a Macro-F1 of {average:.0f} out of 100 on average,"
        f" least for {escape(worst)}, {of_attributes[worst]:.0f}."
    )


def _corpus_link(name: str, dataset: str) -> str:
    """A corpus by its name, with a link where it is one of the Hub's."""
    return _link(name, f"{HUB}/datasets/{dataset}") if REPOSITORY.fullmatch(dataset) else escape(name)


def save_thumbnail(photos: Sequence[Image.Image], path: str | os.PathLike) -> None:
    """Three photos side by side, as large as the Hub shows a link: 1200 x 630 pixels."""
    picture = Image.new("RGB", (1200, 630), "white")
    for index, photo in enumerate(photos[:3]):
        picture.paste(ImageOps.fit(photo.convert("RGB"), (392, 622)), (4 + 400 * index, 4))
    picture.save(path, "JPEG", quality=85)


def _link(text: str, address: str) -> str:
    return f'<a href="{escape(address)}" target="_blank" rel="noopener">{escape(text)}</a>'
