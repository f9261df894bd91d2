"""Writes a synthetic Yelp: a folder in the form of the Yelp Open Dataset, any number of users, the same for a seed.

    python -m dataset_script.synthesize --output data/raw --users 2000 --seed 0

The corpus poses the real problem. Every user has tastes: two trades, an hour, a price, happy hours or not, food packed
or not. They visit places mostly, not always, by these tastes, and rate them by their temper. Reviews tell rating and
trade (synthetic/reviews); photos tell hour, price, happy hour and packed food (synthetic/photos). No label is written:
the builder derives profiles from the visits, as it does for the real Yelp. The files have the real ones' quirks.
"""

import argparse
import datetime
import json
import random
import string
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .provenance import mark_synthetic
from .synthetic.photos import Scene, draw_photo
from .synthetic.reviews import Traits, write_caption, write_review, write_too_short
from .synthetic.words import CATEGORIES

MIN_REVIEWS, MAX_REVIEWS = 30, 50  # of a user, those too short or too long for the builder aside
MIN_BUSINESSES, MAX_BUSINESSES = 20, 6000
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 16, 2048
CASUAL_USERS = 0.03  # so many more, who write fewer reviews than the builder asks for
TASTE = (0.85, 0.93)  # how often a visit follows the user's taste, for each taste from ... to ...
TEMPERS = (0.08, 0.17, 0.25, 0.30, 0.20)  # shares of users whose mean rating is 1, 2, 3, 4, 5
USUAL, SHORT, LONG = range(3)  # reviews; the builder drops the short and the long
PHOTO_LABELS = {"food": 0.4, "inside": 0.22, "outside": 0.14, "drink": 0.12, "menu": 0.12}

OTHER_CATEGORIES = (
    "Restaurants",
    "Food",
    "Nightlife",
    "Bars",
    "American (Traditional)",
    "Sandwiches",
    "Diners",
    "Breakfast & Brunch",
    "Specialty Food",
    "Arts & Entertainment",
)
CITIES = (
    ("Philadelphia", "PA", "191", 39.95, -75.16),
    ("Tampa", "FL", "336", 27.95, -82.46),
    ("Tucson", "AZ", "857", 32.22, -110.97),
    ("Nashville", "TN", "372", 36.16, -86.78),
)
FIRST_NAMES = (
    "Rosa",
    "Harry",
    "Lin",
    "Maple",
    "Golden",
    "Union",
    "Corner",
    "Sunset",
    "Papa Joe",
    "River",
    "Oak",
    "Bella",
    "Liberty",
    "Caf\u00e9 Max",
    "Old Town",
    "Pearl",
)
LAST_NAMES = ("House", "Kitchen", "& Sons", "Company", "Place", "Lounge", "Works", "Studio", "Corner", "Room")
STREETS = ("Main St", "Market St", "E Broadway Blvd", "N 4th Ave", "Chestnut St", "Gulf Rd", "Church St")
ID_ALPHABET = string.ascii_letters + string.digits + "-_"
FIRST_DAY = datetime.datetime(2012, 1, 1)
SECONDS = 10 * 365 * 24 * 3600


@dataclass(frozen=True)
class Business:
    business_id: str
    categories: tuple[str, ...]
    """One or two of the ten categories."""
    traits: Traits


@dataclass(frozen=True)
class User:
    user_id: str
    tastes: tuple[str, ...]
    traits: Traits
    temper: float
    """What their ratings are near to, 1 to 5."""
    num_reviews: int


# A review to be written: user and business by number, second since FIRST_DAY, length one of USUAL, SHORT, LONG.
VISIT = np.dtype([("user", "i4"), ("business", "i4"), ("rating", "i1"), ("second", "i4"), ("length", "i1")])


def synthesize(
    output: str | Path,
    num_users: int = 2000,
    seed: int = 0,
    num_businesses: int | None = None,
    image_size: int = 96,
) -> None:
    """Write `output`/yelp_academic_dataset_{business,review}.json, photos.json, photos/*.jpg, and synthetic.json, by
    which a build knows that it is of synthetic data.

    Args:
        output: The folder to write; it must not be there, or be empty. It appears when everything is written.
        num_users: Users with at least MIN_REVIEWS usable reviews, at least 1; a few casual ones come on top.
        seed: Two runs with the same arguments and libraries write the same bytes.
        num_businesses: MIN_BUSINESSES or more; without it, one and a half a user, from 150 to MAX_BUSINESSES.
        image_size: Side of the square photos in pixels, MIN_IMAGE_SIZE to MAX_IMAGE_SIZE.

    Raises:
        ValueError: an argument is out of its range, or `output` is a file or a folder that holds something.
    """
    if num_businesses is None:
        num_businesses = min(MAX_BUSINESSES, max(150, num_users * 3 // 2))
    output = Path(output).resolve()
    _check(output, num_users, num_businesses, image_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as unfinished:
        folder = Path(unfinished) / output.name
        (folder / "photos").mkdir(parents=True)
        _write(folder, num_users, num_businesses, seed, image_size)
        if output.exists():
            output.rmdir()
        folder.rename(output)


def _check(output: Path, num_users: int, num_businesses: int, image_size: int) -> None:
    if num_users < 1:
        raise ValueError(f"num_users is {num_users}; at least 1 user is needed")
    if num_businesses < MIN_BUSINESSES:
        raise ValueError(f"num_businesses is {num_businesses}; users need {MIN_BUSINESSES} or more to choose from")
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise ValueError(f"image_size is {image_size}; it must be {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels")
    if output.exists() and not output.is_dir():
        raise ValueError(f"output {output} is a file; give a folder that is new or empty")
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"output {output} holds {min(output.iterdir()).name} already; give a new or empty folder")


def _write(folder: Path, num_users: int, num_businesses: int, seed: int, image_size: int) -> None:
    # A source of luck for each file, so that a change to one leaves the others as they are.
    luck = {name: random.Random(f"{seed}/{name}") for name in ("town", "people", "reviews", "businesses", "photos")}
    businesses = [_found_business(luck["town"]) for _ in range(num_businesses)]
    users = _meet_users(luck["people"], num_users)
    generator = np.random.default_rng(luck["people"].getrandbits(64))
    visits = _plan_visits(generator, users, businesses)
    records = {
        "yelp_academic_dataset_review.json": _reviews(luck["reviews"], visits, users, businesses),
        "yelp_academic_dataset_business.json": _businesses(luck["businesses"], visits, businesses),
        "photos.json": _photos(luck["photos"], businesses, folder / "photos", image_size),
    }
    for name, lines in records.items():
        _write_lines(folder / name, lines)
    arguments = {"users": num_users, "seed": seed, "businesses": num_businesses, "image_size": image_size}
    mark_synthetic(folder, [folder / name for name in records], arguments)


def _write_lines(path: Path, records: Iterator[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record) + "\n")


def _new_id(rng: random.Random) -> str:
    return "".join(rng.choices(ID_ALPHABET, k=22))


# ---------------------------------------------------------------------------------------------------------------------
# Who there is, and who goes where.


def _draw_traits(rng: random.Random) -> Traits:
    return Traits(*(rng.random() < 0.5 for _ in Traits._fields))


def _found_business(rng: random.Random) -> Business:
    categories = rng.sample(CATEGORIES, 2 if rng.random() < 0.4 else 1)
    return Business(_new_id(rng), tuple(categories), _draw_traits(rng))


def _meet_users(rng: random.Random, num_users: int) -> list[User]:
    users = []
    for number in range(num_users + 1 + round(CASUAL_USERS * num_users)):
        stars = rng.choices((1, 2, 3, 4, 5), TEMPERS)[0]
        temper = min(5.0, max(1.0, stars + rng.uniform(-0.25, 0.25)))
        num_reviews = rng.randint(MIN_REVIEWS, MAX_REVIEWS) if number < num_users else rng.randint(3, MIN_REVIEWS - 1)
        user_id, (taste, other) = _new_id(rng), rng.sample(CATEGORIES, 2)
        users.append(User(user_id, (taste, other), _draw_traits(rng), temper, num_reviews))
    return users


def _plan_visits(generator: np.random.Generator, users: list[User], businesses: list[Business]) -> np.ndarray:
    """All visits, of dtype VISIT, in no order."""
    trades = np.array([[category in business.categories for category in CATEGORIES] for business in businesses])
    traits = np.array([business.traits for business in businesses])
    fame = np.exp(0.5 * generator.standard_normal(len(businesses)))
    parts = []
    for number, user in enumerate(users):
        lengths = [USUAL] * user.num_reviews
        lengths += [SHORT] * (generator.random() < 0.25) + [LONG] * (generator.random() < 0.1)
        visits = np.zeros(len(lengths), VISIT)
        odds = np.cumsum(fame * _appeal(generator, user, trades, traits))
        visits["user"], visits["length"] = number, lengths
        visits["business"] = np.searchsorted(odds, odds[-1] * generator.random(len(visits)), side="right")
        visits["rating"] = np.rint(generator.normal(user.temper, 0.42, len(visits))).clip(1, 5)
        visits["second"] = generator.integers(SECONDS, size=len(visits))
        parts.append(visits)
    return generator.permutation(np.concatenate(parts))


def _appeal(generator: np.random.Generator, user: User, trades: np.ndarray, traits: np.ndarray) -> np.ndarray:
    """How much each business draws the user: each taste is followed in a share TASTE of the visits.

    trades: (businesses, categories), traits: (businesses, traits), both bool. Returns (businesses,), above 0.
    """
    liked = trades[:, [CATEGORIES.index(category) for category in user.tastes]]
    appeal = np.where(liked.all(axis=1), 5.0, 1.0)
    for fits in (liked.any(axis=1), *(traits == user.traits).T):
        share = min(0.99, max(0.01, fits.mean()))
        taste = generator.uniform(*TASTE)
        appeal *= np.where(fits, taste / share, (1 - taste) / (1 - share))
    return appeal


# ---------------------------------------------------------------------------------------------------------------------
# The three files' records.


def _reviews(rng: random.Random, visits: np.ndarray, users: list[User], businesses: list[Business]) -> Iterator[dict]:
    for visit in visits:
        user_number, business_number, rating, second, length = visit.item()
        user, business = users[user_number], businesses[business_number]
        if length == SHORT:
            text = write_too_short(rng)
        else:
            num_words = rng.randint(330, 420) if length == LONG else None
            text = write_review(rng, rating, business.categories, user.tastes, business.traits, num_words)
        yield {
            "review_id": _new_id(rng),
            "user_id": user.user_id,
            "business_id": business.business_id,
            "stars": float(rating),
            "useful": int(rng.expovariate(1)),
            "funny": int(rng.expovariate(2)),
            "cool": int(rng.expovariate(2)),
            "text": text,
            "date": str(FIRST_DAY + datetime.timedelta(seconds=second)),
        }


def _businesses(rng: random.Random, visits: np.ndarray, businesses: list[Business]) -> Iterator[dict]:
    counts = np.bincount(visits["business"], minlength=len(businesses)).tolist()
    totals = np.bincount(visits["business"], visits["rating"], len(businesses)).tolist()
    for business, count, total in zip(businesses, counts, totals, strict=True):
        city, state, postal, latitude, longitude = rng.choice(CITIES)
        names = [*business.categories, *rng.sample(OTHER_CATEGORIES, rng.randint(1, 3))]
        rng.shuffle(names)
        yield {
            "business_id": business.business_id,
            "name": f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
            "address": f"{rng.randint(1, 9999)} {rng.choice(STREETS)}" if rng.random() < 0.97 else "",
            "city": city,
            "state": state,
            "postal_code": f"{postal}{rng.randint(0, 99):02d}",
            "latitude": round(latitude + rng.gauss(0, 0.05), 10),
            "longitude": round(longitude + rng.gauss(0, 0.05), 10),
            "stars": round(2 * total / count) / 2 if count else 3.0,
            "review_count": count,
            "is_open": int(rng.random() < 0.8),
            "attributes": _attributes(rng, business.traits) if rng.random() < 0.97 else None,
            "categories": ", ".join(names) if rng.random() < 0.985 else None,
            "hours": _hours(rng) if rng.random() < 0.85 else None,
        }


def _literal(rng: random.Random, word: str) -> str:
    """A word as Yelp has it: a Python literal, at times of Python 2."""
    return f"u'{word}'" if rng.random() < 0.6 else f"'{word}'"


def _attributes(rng: random.Random, traits: Traits) -> dict[str, str]:
    """Yelp's attributes: strings that hold Python literals; some are unknown ("None") or not there."""
    meals = {
        "dessert": False,
        "latenight": None,
        "lunch": not traits.evening,
        "dinner": traits.evening,
        "brunch": rng.random() < 0.2,
        "breakfast": False,
    }
    if rng.random() < 0.1:
        meals["dinner" if meals["lunch"] else "lunch"] = None
    if rng.random() < 0.04:
        meals["dinner"] = meals["lunch"] = True
    names = list(meals)
    rng.shuffle(names)
    prefixes = {name: rng.choice(("", "u")) for name in names}
    catering = traits.takeaway and rng.random() < 0.4
    attributes = {
        "GoodForMeal": "{" + ", ".join(f"{prefixes[name]}'{name}': {meals[name]}" for name in names) + "}",
        "RestaurantsPriceRange2": str(rng.choice((3, 3, 4) if traits.upscale else (1, 2, 2))),
        "HappyHour": str(traits.happy_hour),
        # A caterer need not sell over the counter; whoever does neither says so twice.
        "RestaurantsTakeOut": str(traits.takeaway and not (catering and rng.random() < 0.4)),
        "Caters": str(catering),
        "WiFi": _literal(rng, rng.choice(("no", "free", "paid"))),
        "NoiseLevel": _literal(rng, rng.choice(("average", "quiet", "loud", "very_loud"))),
        "Alcohol": _literal(rng, rng.choice(("none", "beer_and_wine", "full_bar"))),
        "RestaurantsReservations": str(rng.random() < 0.5),
        "BikeParking": str(rng.random() < 0.6),
        "BusinessParking": str({place: rng.random() < 0.4 for place in ("garage", "street", "validated", "lot")}),
        "Ambience": "{u'romantic': None, 'casual': True, u'classy': False}",
    }
    kept = {name: value for name, value in attributes.items() if rng.random() < 0.94}
    return {name: "None" if rng.random() < 0.02 else value for name, value in kept.items()}


def _hours(rng: random.Random) -> dict[str, str]:
    opening, closing = rng.choice(("7:0", "8:0", "11:30")), rng.choice(("15:0", "18:0", "22:30"))
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    return {day: f"{opening}-{closing}" for day in days if rng.random() < 0.9}


def _photos(rng: random.Random, businesses: list[Business], folder: Path, image_size: int) -> Iterator[dict]:
    """Draw 2 to 4 photos for nearly every business; a few of those listed get no file."""
    for business in businesses:
        for _ in range(rng.randint(2, 4) if rng.random() < 0.97 else 0):
            photo_id, label = _new_id(rng), rng.choices(tuple(PHOTO_LABELS), tuple(PHOTO_LABELS.values()))[0]
            category, shown = rng.choice(business.categories), _show(rng, business.traits)
            if rng.random() < 0.99:
                image = draw_photo(Scene(label, category, shown), rng, image_size)
                image.save(folder / f"{photo_id}.jpg", quality=88)
            yield {
                "photo_id": photo_id,
                "business_id": business.business_id,
                "caption": write_caption(rng, label, category, shown),
                "label": label,
            }


def _show(rng: random.Random, traits: Traits) -> Traits:
    """What can be seen of a place's traits in one photo: boards and bags may be out of view, others' in view."""
    return Traits(
        evening=traits.evening == (rng.random() < 0.95),
        upscale=traits.upscale == (rng.random() < 0.95),
        happy_hour=rng.random() < (0.92 if traits.happy_hour else 0.06),
        takeaway=rng.random() < (0.92 if traits.takeaway else 0.06),
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write, new or empty")
    parser.add_argument("--users", type=int, default=2000, help="users with enough reviews for a profile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--businesses", type=int, default=None, help="without it, 1.5 a user, 150 to 6000")
    parser.add_argument("--image_size", type=int, default=96, help="side of the square photos, in pixels")
    options = parser.parse_args(argv)
    synthesize(options.output, options.users, options.seed, options.businesses, options.image_size)
    print(f"wrote {options.users} users' reviews, their places and photos to {options.output}")


if __name__ == "__main__":
    main()
