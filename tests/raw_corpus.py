"""A raw folder written by hand: seven places, a dozen users, and the profiles worked out from them on paper.

What each place tells (`-` is unknown; L and D are lunch and dinner):

| place | categories of the ten | meal | price | happy hour | service | photos |
|---|---|---|---|---|---|---|
| pizzeria | Pizza | L | 1 | yes | yes | 5 |
| slice | Pizza, Coffee & Tea | L | 2 | yes | yes | 1 |
| bistro | Event Planning & Services | D | 4 | no | no | 1 |
| diner | none (null) | D | 3 | yes | no | 1 |
| cafe | Coffee & Tea | - (both) | 2 | no | yes (caters) | - |
| garage | Automotive | - | - | - | - (null attributes) | - |
| spa | Shopping, Beauty & Spas | - | - | - | - (all broken or foreign) | - |
"""

import gzip
import io
import json
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from PIL import Image

from dataset_script.corpus import Corpus, plan_corpus
from dataset_script.corpus_config import MMProfileYelpConfig
from dataset_script.profile_rules import read_rules
from dataset_script.raw_files import find_raw_files

RULES = read_rules(Path(__file__).parent.parent / "dataset_script" / "yelp_schema.yaml")


def _attributes(meal: str, price: str, happy_hour: str, takeout: str, caters: str) -> dict[str, str]:
    return {
        "GoodForMeal": meal,
        "RestaurantsPriceRange2": price,
        "HappyHour": happy_hour,
        "RestaurantsTakeOut": takeout,
        "Caters": caters,
    }


BOTH, DINNER = "{'lunch': True, 'dinner': True}", "{'lunch': False, 'dinner': True}"
LUNCH = "{'dessert': False, u'lunch': True, 'dinner': None}"
EVENTS = "Event Planning & Services"
BUSINESSES = {
    "pizzeria": ("Pizza, Restaurants", _attributes(LUNCH, "1", "True", "True", "False")),
    "slice": ("Coffee & Tea, Pizza", _attributes(LUNCH, "2", "True", "True", "None")),
    "bistro": (f"Restaurants, {EVENTS}", _attributes(DINNER, "4", "False", "False", "None")),
    "diner": (None, _attributes("{u'dinner': True}", "3", "True", "False", "None")),
    "cafe": ("Coffee & Tea, Coffee & Tea Supplies", _attributes(BOTH, "2", "False", "None", "True")),
    "garage": ("Automotive", None),
    "spa": ("Shopping, Beauty & Spas", _attributes("None", "u'cheap'", "u'no'", "{'broken': ", "__import__('os')")),
}
PHOTOS = {"pizzeria": 5, "slice": 1, "bistro": 1, "diner": 1}

# user -> (reviews of each place, ratings in the order of the reviews, from the newest).
USERS = {
    "ann": ({"pizzeria": 15, "bistro": 15}, [3] * 15 + [4] * 15),
    "bob": ({"pizzeria": 10, "bistro": 10, "diner": 10}, [5] * 30),
    "cat": ({"pizzeria": 15, "cafe": 15}, [2] * 30),
    "dan": ({"pizzeria": 10, "bistro": 10, "garage": 5, "spa": 5}, [1] * 30),
    "eve": ({"pizzeria": 10, "slice": 10, "cafe": 5, "bistro": 5}, [3] * 16 + [4] * 14),
    "fay": ({"pizzeria": 15, "bistro": 14}, [4] * 29),
    "gus": ({"diner": 10, "bistro": 10, "slice": 10}, [4] * 30),
    "hal": ({"garage": 14, "spa": 13, "unlisted": 3}, [4] * 30),
    "ida": ({"pizzeria": 15, "diner": 15}, [4] * 30),
    "jon": ({"pizzeria": 2, "cafe": 28}, [4] * 30),
    "kim": ({"pizzeria": 3, "cafe": 27}, [3] * 30),
    "lou": ({"pizzeria": 20, "bistro": 5, "nowhere": 5}, [5] * 15 + [4] * 15),
}

# Means of the prices: ann 2.5, bob 8/3, cat 1.5, dan 2.5, eve 2.25, gus 3, kim 1.5, lou 2.5; their median is 2.5.
MEDIAN_PRICE = 2.5


def _profile(stars: str, categories: list[str], meal: str, budget: str, discount: str, service: str) -> dict:
    return {
        "stars": stars,
        "favorite_category": categories,
        "preferred_meal": meal,
        "budget_range": budget,
        "discount_preference": discount,
        "service_preference": service,
    }


PROFILES = {
    # Mean 3.5 is 4. One place each: the schema's order. Every half is not over one half; 2.5 is not above 2.5.
    "ann": _profile("4", [EVENTS, "Pizza"], "Lunch", "Low", "False", "False"),
    # Dinner two of three, 8/3 above 2.5, happy hours two of three, service one of three.
    "bob": _profile("5", [EVENTS, "Pizza"], "Dinner", "High", "True", "False"),
    # The cafe, good for both meals, leaves one place for lunch; happy hours one of two; both serve.
    "cat": _profile("2", ["Pizza", "Coffee & Tea"], "Lunch", "Low", "False", "True"),
    # Five categories once each: the first two of the schema. Garage and spa tell nothing else.
    "dan": _profile("1", ["Automotive", "Shopping"], "Lunch", "Low", "False", "False"),
    # 104 / 30 is 3.47. Pizza and Coffee & Tea twice beat Event Planning & Services, which stands first in the schema.
    # Lunch two of three, happy hours two of four, service three of four.
    "eve": _profile("3", ["Pizza", "Coffee & Tea"], "Lunch", "Low", "False", "True"),
    # Three categories once each. Dinner two of three, mean price 3, happy hours two of three, service one of three.
    "gus": _profile("4", [EVENTS, "Pizza"], "Dinner", "High", "True", "False"),
    # As cat, with 3 reviews that have a photo, the fewest that do.
    "kim": _profile("3", ["Pizza", "Coffee & Tea"], "Lunch", "Low", "False", "True"),
    # Mean 4.5 is 5. Twenty reviews of the pizzeria are one place: half, as ann.
    "lou": _profile("5", [EVENTS, "Pizza"], "Lunch", "Low", "False", "False"),
}
DROPPED_USERS = {
    "fewer than 30 reviews of a fitting length": 1,  # fay, her 30th has 4 words and her 31st 301
    "fewer than 3 reviews with a photo": 1,  # jon, with two
    "no evidence for favorite_category": 1,  # ida: Pizza, and a place without categories
    "no evidence for preferred_meal": 1,  # hal
}


@dataclass
class RawCorpus:
    """Lines and photo files to change and to write; `write` makes the folder."""

    businesses: list[dict]
    reviews: list[dict]
    photos: list[dict]
    files: dict[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path, gz: bool = False, shuffle: bool = False) -> Path:
        (folder / "photos").mkdir(parents=True)
        for name, records in (("business", self.businesses), ("review", self.reviews), ("photos", self.photos)):
            lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
            if shuffle:
                random.Random(1).shuffle(lines)
            content = "".join(f"{line}\n" for line in lines).encode()
            path = folder / (f"yelp_{name}.json" + (".gz" if gz else ""))
            path.write_bytes(gzip.compress(content) if gz else content)
        for photo_id, content in self.files.items():
            (folder / "photos" / f"{photo_id}.jpg").write_bytes(content)
        return folder


def jpeg(color: tuple[int, int, int] = (0, 0, 0), size: tuple[int, int] = (8, 6), mode: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, mode)
    return buffer.getvalue()


def review(user: str, number: int, business: str, stars: float, words: int = 5) -> dict:
    """A user's `number`-th newest review; its id and date follow from the number."""
    date = datetime(2021, 5, 1, 12) - timedelta(days=number)
    text = " ".join(["word"] * words)
    return {
        "review_id": f"{user}-{number:02}",
        "user_id": user,
        "business_id": business,
        "stars": float(stars),
        "useful": 0,
        "text": text,
        "date": f"{date}",
    }


def hand_written() -> RawCorpus:
    """The corpus of `USERS`, whose profiles are `PROFILES`."""
    businesses = [
        {"business_id": name, "name": name, "categories": categories, "attributes": attributes, "hours": None}
        for name, (categories, attributes) in BUSINESSES.items()
    ]
    reviews = []
    for user, (visits, ratings) in USERS.items():
        # One place after the other, as often as each is visited.
        turns = sorted((turn, place) for place, count in visits.items() for turn in range(count))
        places = [place for _, place in turns]
        reviews += [
            review(user, n, place, stars) for n, (place, stars) in enumerate(zip(places, ratings, strict=True))
        ]
    reviews += [review("fay", 29, "pizzeria", 4, words=4), review("fay", 30, "pizzeria", 4, words=301)]
    gus = [record for record in reviews if record["user_id"] == "gus"]
    gus[0]["text"] = " ".join(["word"] * 300)  # the longest that fits; all others are the shortest
    photo_ids = {f"{place}-{n}": place for place, count in PHOTOS.items() for n in range(count)}
    photo_ids["unlisted-0"] = "unlisted"  # a place without a line of its own: hal's photos
    photos = [
        {"photo_id": photo_id, "business_id": place, "caption": f" the {place} " if n % 2 else "", "label": "food"}
        for n, (photo_id, place) in enumerate(photo_ids.items())
    ]
    files = {photo_id: jpeg((20 * n, 90, 255 - 20 * n)) for n, photo_id in enumerate(photo_ids)}
    return RawCorpus(businesses, reviews, photos, files)


def config(**options) -> MMProfileYelpConfig:
    return MMProfileYelpConfig(name="default", version="1.0.0", **options)


def plan(folder: Path, rules=RULES, **options) -> Corpus:
    return plan_corpus(find_raw_files(folder), config(**options), rules)
