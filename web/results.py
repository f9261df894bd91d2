"""Answers of the endpoint handler as HTML for `app.py`. Everything that is not a tag of this file is escaped."""

import base64
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from math import comb, exp, prod

from PIL import Image

THUMBNAIL = (320, 320)  # pixels at most
EXCERPT = 110  # characters of a review
TOLD = 0.01  # a change of probability that is told

EMPTY = '<p class="hint">The profile appears here, with how sure the model is of each value.</p>'


def render_error(sentence: str) -> str:
    return f'<p class="problem" role="alert">{escape(sentence)}</p>'


def render_answers(
    answers: Mapping[str, Mapping | str],
    names: Mapping[str, str],
    photos: Sequence[tuple],
    reviews: Sequence[str] = (),
) -> str:
    """What the page shows.

    Args:
        answers: what the model was given, e.g. "Everything" -> its answer, or a sentence why there is none. The first
            one is an answer, the others are compared with it.
        names: attribute key -> its name.
        photos: name and thumbnail (a data URL) of each photo, in the order of `image_weights`.
        reviews: in the order of `review_effects`, which the first answer has where it explains.
    """
    first = next(iter(answers.values()))
    assert not isinstance(first, str)
    parts = [_summary(first), _table(answers, names), _compared(first), _reviews(first, names, reviews)]
    return "\n".join([*parts, _photos(first, names, photos), _runners_up(first, names), _all_values(first, names)])


def thumbnail(image: Image.Image) -> str:
    """A photo as a data URL of a small JPEG, without what the file says of place and camera. The image is shrunk."""
    image.thumbnail(THUMBNAIL)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, exif=b"", icc_profile=None, comment=b"")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def percent(share: float) -> str:
    """A share from 0 to 1 in whole percent; what is neither nothing nor all is never shown as that."""
    rounded = round(100 * share)
    if rounded == 0 and share > 0:
        return "<1%"
    return ">99%" if rounded == 100 and share < 1 - 1e-6 else f"{rounded}%"


def _summary(answer: Mapping) -> str:
    """The profile as a whole and how sure it is, told so that a product of probabilities does not read as a fault."""
    shares, score, whole = answer["probabilities"], answer["log_probability"], _whole(answer)
    number = prod(comb(len(shares[key]), len(_values(value))) for key, value in answer["profile"].items())
    if answer["exact"]:
        proof = f"the most probable of all {number:,}, which is proved"
    elif score is None or any(other["log_probability"] > score for other in answer["runners_up"]):
        proof = "decided attribute by attribute"
    else:
        proof = "the most probable one found"
    note = "Each bar is the probability of one value by itself."
    if whole is not None:
        note += (
            f" That all {len(shares)} attributes are right at once is always rarer:"
            f" <b>{escape(percent(exp(whole)))}</b>, where a profile picked blindly has 1 in {number:,}."
        )
    notes = [note, *(escape(_spoken(problem)) for problem in answer.get("problems", ()))]
    if None in answer.get("decided", {}).values():
        notes.append("What is left open is not sure enough for the precision asked for.")
    return f'<p class="summary" role="status">This profile is {proof}.</p>' + "".join(
        f'<p class="note">{note}</p>' for note in notes
    )


def _whole(answer: Mapping) -> float | None:
    """The logarithm of the profile's probability; None with several views, where `log_probability` is the mean of what
    each says, and no probability of all together."""
    return answer["log_probability"] if answer.get("views") == 1 else None


def _spoken(problem: str) -> str:
    """A sentence without the names of settings."""
    text = re.sub(r"\w+_tokens=(\d+)", r"\1 tokens", problem)
    return f"{text[:1].upper()}{text[1:]}."


def _compared(answer: Mapping) -> str:
    mass = int(100 * answer["coverage"])  # at least
    known = f"at least {mass}%" if mass else "a small part"
    bars = "are exact" if mass == 100 else f"are estimates: the profiles explored have {known} of the probability"
    return f'<p class="note">Bars {bars}.</p>'


def _table(answers: Mapping[str, Mapping | str], names: Mapping[str, str]) -> str:
    """A row an attribute, a column an answer."""
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in answers)
    rows = []
    for key, name in names.items():
        cells = "".join(_cell(title, key, answers) for title in answers)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    compared = " compared" if len(answers) > 1 else ""
    return (
        f'<table class="answers{compared}"><caption>Profile</caption>'
        f'<thead><tr><th scope="col">Attribute</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _cell(title: str, key: str, answers: Mapping[str, Mapping | str]) -> str:
    answer, first = answers[title], next(iter(answers.values()))
    assert not isinstance(first, str)
    label = f'data-title="{escape(title)}"'
    if isinstance(answer, str):
        return f'<td {label} class="none">{escape(answer)}</td>'
    shares = answer["probabilities"][key]
    bars = "".join(_bar(value, shares[value]) for value in _values(answer["profile"][key]))
    left_open = answer.get("decided", answer["profile"])[key] is None
    shown = f"<ul>{bars}</ul>" + '<span class="badge">left open</span>' * left_open
    if answer["profile"][key] != first["profile"][key]:
        return f'<td {label} class="changed">{shown}<span class="badge">changed</span></td>'
    return f"<td {label}>{shown}</td>"


def _reviews(answer: Mapping, names: Mapping[str, str], reviews: Sequence[str]) -> str:
    """What each review did."""
    effects = answer.get("review_effects")
    if not effects:
        return ""
    items = []
    for text, effect in zip(reviews, effects, strict=True):
        if effect is None:  # not asked, as the summary says
            continue
        excerpt = textwrap.wrap(text, EXCERPT, max_lines=1, placeholder=" ...")[0]
        items.append(f'<li><p class="excerpt">{escape(excerpt)}</p>{_did(answer, effect, names)}</li>')
    note = (
        "Each was left out in turn, and the profile guessed again. A bar is the review's part of how much less"
        " probable the profile above became."
    )
    return f'<h3>Which reviews counted</h3><p class="note">{note}</p><ol class="effects">{"".join(items)}</ol>'


def _did(answer: Mapping, effect: Mapping | None, names: Mapping[str, str]) -> str:
    """A bar, and a sentence of what is different without this review or photo; nothing where it was not asked."""
    if effect is None:
        return ""
    if "error" in effect:
        return '<p class="note">There is no answer without it.</p>'
    bar = f"<ul>{_bar('counted', effect['share'])}</ul>"
    if effect["changed"]:
        values = [
            f"{escape(names[key])}: <strong>{escape(', '.join(_values(value)))}</strong>"
            for key, value in effect["changed"].items()
        ]
        return f'{bar}<p class="note changed">Without it, {"; ".join(values)}.</p>'
    falls = [(fall, key, value) for key, of in effect["probabilities"].items() for value, fall in of.items()]
    fall, key, value = max(falls, key=lambda item: abs(item[0]), default=(0.0, "", ""))
    if abs(fall) < TOLD:
        return f'{bar}<p class="note">Without it hardly anything changes.</p>'
    before = answer["probabilities"][key][value]
    shares = f"{escape(percent(before))} to {escape(percent(min(max(before - fall, 0.0), 1.0)))}"
    told = f"{escape(names[key])} {escape(value)} {'falls' if fall > 0 else 'rises'} from {shares}"
    return f'{bar}<p class="note">Without it, {told}.</p>'


def _photos(answer: Mapping, names: Mapping[str, str], photos: Sequence[tuple]) -> str:
    if not photos:
        return ""
    weights, effects = answer["image_weights"], answer.get("photo_effects")
    if weights is None:
        text = "This model reads photos and text as one sequence and does not tell photos' weights."
    elif not any(weights):
        text = "The model did not look at the photos."
    else:
        text = "Attention is how much the model gave each photo, on average over the words."
    if effects is not None:
        text += " Each was left out in turn, with its caption: counted is its part of how much the profile lost."
    figures = []
    for index, (name, source) in enumerate(photos):
        bar = "" if weights is None else f"<ul>{_bar('attention', weights[index])}</ul>"
        did = "" if effects is None else _did(answer, effects[index], names)
        picture = f'<img src="{escape(source)}" alt="{escape(name)}">'
        figures.append(f"<figure>{picture}<figcaption>{escape(name)}{bar}{did}</figcaption></figure>")
    return f'<h3>Photos</h3><p class="note">{text}</p><div class="photos">{"".join(figures)}</div>'


def _all_values(answer: Mapping, names: Mapping[str, str]) -> str:
    groups = []
    for key, name in names.items():
        shares = sorted(answer["probabilities"][key].items(), key=lambda item: -item[1])
        bars = "".join(_bar(value, share) for value, share in shares)
        groups.append(f"<section><h4>{escape(name)}</h4><ul>{bars}</ul></section>")
    return f'<details><summary>All values</summary><div class="groups">{"".join(groups)}</div></details>'


def _runners_up(answer: Mapping, names: Mapping[str, str]) -> str:
    if not answer["runners_up"]:
        return ""
    items = []
    for other in answer["runners_up"]:
        different = [
            f"{escape(name)}: <strong>{escape(', '.join(_values(other['profile'][key])))}</strong>"
            for key, name in names.items()
            if other["profile"][key] != answer["profile"][key]
        ]
        odds = ""
        if (whole := _whole(answer)) is not None:
            share = percent(exp(other["log_probability"] - whole))
            odds = f" <span>{escape(share)} as probable</span>"
        items.append(f"<li>{'; '.join(different)}{odds}</li>")
    note = '<p class="note">Where they differ from the profile above.</p>'
    return f'<h3>Runners-up</h3>{note}<ol class="runners">{"".join(items)}</ol>'


def _bar(value: str, share: float) -> str:
    return (
        f'<li><span class="value">{escape(value)}</span><span class="percent">{escape(percent(share))}</span>'
        f'<span class="bar" aria-hidden="true"><span style="width:{100 * min(share, 1):.1f}%"></span></span></li>'
    )


def _values(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
