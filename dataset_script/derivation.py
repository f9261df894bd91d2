"""From a user's reviews to the user's profile: what businesses tell, labels, which reviews and photos, which split.

Pure functions of plain values (section 3 and appendix A of the paper). Where the paper is silent, the choice stands in
a comment. Nothing here depends on the order in which records arrive.
"""

import ast
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

FAVORITE_CATEGORIES = (
    "Automotive",
    "Shopping",
    "Event Planning & Services",
    "Pizza",
    "Coffee & Tea",
    "Active Life",
    "Beauty & Spas",
    "Local Services",
    "Health & Medical",
    "Home Services",
)
FAVORITES = 2

# The profile's columns, in order, each with the values that it can take.
PROFILE_VALUES = {
    "stars": ("1", "2", "3", "4", "5"),
    "favorite_category": FAVORITE_CATEGORIES,
    "preferred_meal": ("Lunch", "Dinner"),
    "budget_range": ("Low", "High"),
    "discount_preference": ("True", "False"),
    "service_preference": ("True", "False"),
}

# Yelp's longest attribute value has some 200 characters. The bound keeps a hostile one from the parser.
MAX_LITERAL_CHARACTERS = 2000


class Evidence(NamedTuple):
    """What one business tells about those who visit it; None is unknown."""

    categories: tuple[str, ...]
    dinner: bool | None
    price: float | None
    happy_hour: bool | None
    service: bool | None


def parse_literal(value: object) -> object:
    """The value of a Python literal inside a string (`"u'no'"`, `"{'lunch': True}"`); None where it is none.

    Anything that is no string is taken as it is. Never evaluates code and never raises.
    """
    if not isinstance(value, str):
        return value
    if len(value) > MAX_LITERAL_CHARACTERS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in a literal is the data's matter
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None


def business_evidence(business: dict) -> Evidence:
    """Reads `categories` and `attributes` of a business; null, absent, malformed or foreign values are unknown."""
    names = business.get("categories")
    names = {name.strip() for name in names.split(",")} if isinstance(names, str) else set()
    attributes = business.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    services = [_boolean(attributes.get(key)) for key in ("RestaurantsTakeOut", "Caters")]
    known_services = [service for service in services if service is not None]
    return Evidence(
        categories=tuple(name for name in FAVORITE_CATEGORIES if name in names),
        dinner=_dinner(attributes.get("GoodForMeal")),
        price=_price(attributes.get("RestaurantsPriceRange2")),
        happy_hour=_boolean(attributes.get("HappyHour")),
        service=any(known_services) if known_services else None,
    )


def _boolean(value: object) -> bool | None:
    value = parse_literal(value)
    return value if isinstance(value, bool) else None


def _dinner(value: object) -> bool | None:
    # A business good for both meals, or for neither, tells nothing of dinner against lunch.
    meals = parse_literal(value)
    if not isinstance(meals, dict):
        return None
    lunch, dinner = meals.get("lunch") is True, meals.get("dinner") is True
    return dinner if lunch != dinner else None


def _price(value: object) -> float | None:
    value = parse_literal(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 4:
        return None
    return float(value)


class Labels(NamedTuple):
    """A user's attributes in the profile's order, None without evidence; `mean_price` stands in the budget's place."""

    stars: str
    favorite_category: tuple[str, ...] | None
    preferred_meal: str | None
    mean_price: float | None
    discount_preference: str | None
    service_preference: str | None

    def missing(self) -> str | None:
        """The first attribute without evidence, by its key in the profile, or None."""
        return next((key for key, value in zip(PROFILE_VALUES, self, strict=True) if value is None), None)

    def profile(self, median_price: float) -> dict[str, str | list[str]]:
        """The profile, once the corpus median of users' mean prices is known; needs all the evidence."""
        budget = "High" if self.mean_price > median_price else "Low"
        values = dict(zip(PROFILE_VALUES, self, strict=True))
        return values | {"favorite_category": list(self.favorite_category), "budget_range": budget}


def derive_labels(ratings: Sequence[float], visited: Iterable[Evidence]) -> Labels:
    """Labels of a user who gave `ratings` (1 to 5, one a review) and visited these businesses, each once.

    A business reviewed twice is one business visited: the shares are of businesses, not of reviews.
    """
    visited = list(visited)
    dinner = majority(business.dinner for business in visited)
    prices = [business.price for business in visited if business.price is not None]
    return Labels(
        stars=str(round_half_up(ratings)),
        favorite_category=favorite_categories(business.categories for business in visited),
        preferred_meal=None if dinner is None else "Dinner" if dinner else "Lunch",
        mean_price=statistics.fmean(prices) if prices else None,
        discount_preference=_text(majority(business.happy_hour for business in visited)),
        service_preference=_text(majority(business.service for business in visited)),
    )


def _text(value: bool | None) -> str | None:
    return None if value is None else str(value)


def round_half_up(ratings: Sequence[float]) -> int:
    """The mean of the ratings, rounded to the nearest integer, a half upwards."""
    return int((2 * sum(ratings) + len(ratings)) // (2 * len(ratings)))


def majority(values: Iterable[bool | None]) -> bool | None:
    """Whether over one half of the known values are true (exactly half are not); None where none is known."""
    known = [value for value in values if value is not None]
    return 2 * sum(known) > len(known) if known else None


def favorite_categories(categories: Iterable[Iterable[str]]) -> tuple[str, ...] | None:
    """The two most frequent categories, ties and result in `FAVORITE_CATEGORIES`' order; None for fewer than two."""
    counts = Counter(name for names in categories for name in names)
    # `sorted` is stable, so among equals the order of FAVORITE_CATEGORIES decides.
    ranked = sorted((name for name in FAVORITE_CATEGORIES if counts[name]), key=lambda name: -counts[name])
    if len(ranked) < FAVORITES:
        return None
    return tuple(name for name in FAVORITE_CATEGORIES if name in ranked[:FAVORITES])


def hash_order(*parts: str | int) -> bytes:
    """A key that sorts by a hash of `parts`: the same on every machine, in every run."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()


def choose_photos(
    user_id: str, photo_ids: Iterable[str], is_usable: Callable[[str], bool], limit: int
) -> tuple[str, ...]:
    """Up to `limit` usable photos, by a hash of (user_id, photo_id); looks at no more of them than it must."""
    chosen = []
    for photo_id in sorted(set(photo_ids), key=lambda photo_id: hash_order(user_id, photo_id)):
        if len(chosen) == limit:
            break
        if is_usable(photo_id):
            chosen.append(photo_id)
    return tuple(chosen)


def split_users(
    user_ids: Iterable[str], seed: int, sizes: dict[str, int], all_users: bool
) -> dict[str, tuple[str, ...]]:
    """Draws the users of each split by a hash of (seed, user_id).

    Args:
        user_ids: at least one a split.
        seed: another seed is another draw.
        sizes: users of each split, by name; the first takes what rounding leaves over. Where there are fewer users
            than their sum, or `all_users`, they are proportions.
        all_users: keep every user, not only as many as `sizes` add up to.

    Raises:
        ValueError: if there are fewer users than splits.
    """
    ordered = sorted(user_ids, key=lambda user_id: hash_order(seed, user_id))
    if len(ordered) < len(sizes):
        raise ValueError(f"{len(sizes)} splits need a user each, but {len(ordered)} users are left")
    total = sum(sizes.values())
    if not all_users:
        ordered = ordered[:total]
    first, *others = sizes
    counts, left = {}, len(ordered)
    for name in others:
        still_empty = len(sizes) - len(counts) - 1
        counts[name] = min(max(1, len(ordered) * sizes[name] // total), left - still_empty)
        left -= counts[name]
    counts = {first: left} | counts
    splits, start = {}, 0
    for name, count in counts.items():
        splits[name] = tuple(ordered[start : start + count])
        start += count
    return splits
