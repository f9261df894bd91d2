"""The worked example of docs/attributes.md: each rule beside a plain derivation of its own, over random places."""

import json
import random
from collections import Counter
from fractions import Fraction
from math import ceil

import pytest

from dataset_script.corpus_card import _explain
from dataset_script.corpus_report import render_report
from dataset_script.profile_rules import read_rules, warn_of_constants
from tests import ROOT
from tests.raw_corpus import RawCorpus, jpeg, plan

DOC = (ROOT / "docs" / "attributes.md").read_text(encoding="utf-8")
(SCHEMA,) = (block.split("```")[0] for block in DOC.split("```yaml\n")[1:])
(BUSINESS,) = (block.split("```")[0] for block in DOC.split("```json\n")[1:])

# What a platform may write -> what it tells; the first two are as likely as all others.
WIFI = {"u'free'": "Free", '"paid"': "Paid", "FREE ": "Free", "'no'": "No", "no": "No", "None": None, "fast": None}
NOISE = {"quiet": "Quiet", "u'very_loud'": "Loud", "Loud": "Loud", "u'average'": "Average", "''": None, "3": None}
CUISINES = {
    "Pizza ,Burgers": {"Pizza"},
    "Thai, Sushi": {"Thai", "Sushi"},
    "['Pizza', u'thai']": {"Pizza", "Thai"},
    '{"Sushi": true, "Pizza": false}': {"Sushi"},
    "Burgers": set(),
    "None": set(),
}
# Beside texts also as JSON has them.
JSON_CUISINES = [
    (["Thai", "Pizza"], {"Thai", "Pizza"}),
    ({"Sushi": True, "Thai": False}, {"Sushi"}),
    (["sushi"], {"Sushi"}),
]
BILLS = {"15": 15, "70": 70, "40.0": 40, "u'12'": None, "0": None, "12.5": Fraction(25, 2), "1e9": None}
SEATS = {str(n): n for n in (10, 20, 25, 30, 50, 80)} | {"None": None}


def pick(rng, told):
    texts = list(told)
    return rng.choice(texts[:2] if rng.random() < 0.5 else texts)


def random_places(seed):
    """Raw files, what each business tells, and each user's visits and ratings."""
    rng = random.Random(seed)
    businesses, told, reviews, photos = [], {}, [], []
    for n in range(30):
        name = f"b{n}"
        texts = {"WiFi": pick(rng, WIFI), "NoiseLevel": pick(rng, NOISE), "cuisines": rng.choice([*CUISINES])}
        texts |= {"average_bill": pick(rng, BILLS), "seats": pick(rng, SEATS)}
        tells = {"wifi": WIFI[texts["WiFi"]], "noise": NOISE[texts["NoiseLevel"]]}
        tells |= {"cuisine": CUISINES[texts["cuisines"]], "spending": BILLS[texts["average_bill"]]}
        tells["crowd"] = SEATS[texts["seats"]]
        if n % 3 == 0:
            texts["cuisines"], tells["cuisine"] = rng.choice(JSON_CUISINES)
        attributes = {key: text for key, text in texts.items() if rng.random() < 0.6}
        missing = {"WiFi": "wifi", "NoiseLevel": "noise", "average_bill": "spending", "seats": "crowd"}
        tells |= {tell: None for key, tell in missing.items() if key not in attributes}
        tells["cuisine"] = tells["cuisine"] if "cuisines" in attributes else set()
        if n == 1:
            attributes, tells = None, dict.fromkeys(tells) | {"cuisine": set()}
        businesses.append({"business_id": name, "attributes": attributes})
        told[name] = tells
    # b30 has no line.
    visits = {f"u{n}": [f"b{rng.randrange(31)}" for _ in range(rng.randint(4, 6))] for n in range(60)}
    ratings = {user: [rng.randint(1, 10) / 2 for _ in places] for user, places in visits.items()}
    for user, places in visits.items():
        for n, (place, stars) in enumerate(zip(places, ratings[user], strict=True)):
            line = {"review_id": f"{user}-{n}", "user_id": user, "business_id": place, "stars": stars}
            reviews.append(line | {"text": "a place of some five words", "date": f"2024-01-{n + 1:02}"})
        photos.append({"photo_id": f"p{user}", "user_id": user, "caption": ""})
    reviews.append(reviews[0] | {"review_id": "too low", "stars": 0.4})
    reviews.append(reviews[0] | {"review_id": "too high", "stars": 5.1})
    raw = RawCorpus(businesses, reviews, photos, {photo["photo_id"]: jpeg() for photo in photos})
    return raw, told, visits, ratings


def commonest(values, told):
    counts = Counter(told)
    return max(values, key=lambda value: (counts[value], -values.index(value))) if counts else None


def mean(numbers):
    known = [Fraction(number) for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def nearest_half(rating):
    halves = [Fraction(n, 2) for n in range(10, 0, -1)]  # of two that are as near, `min` takes the first
    return f"{float(min(halves, key=lambda half: abs(half - rating))):g}"


def plainly_derived(told, visits, ratings):
    """By user, as the example's comments say it; a user without evidence is left out."""
    rows = {}
    for user, visited in visits.items():
        places = [told.get(place, {"cuisine": set()}) for place in sorted(set(visited))]
        known = {key: [place.get(key) for place in places] for key in ("wifi", "noise", "spending", "crowd")}
        rows[user] = {
            "score": nearest_half(mean(ratings[user])),
            "wifi": commonest(["Free", "Paid", "No"], [text or "No" for text in known["wifi"]]),
            "noise": commonest(["Quiet", "Average", "Loud"], [text for text in known["noise"] if text]),
            "spending": mean(known["spending"]),
            "crowd": mean(known["crowd"]),
            "cuisine": commonest(["Thai", "Sushi", "Pizza"], [c for place in places for c in place["cuisine"]]),
        }
    rows = {user: row for user, row in rows.items() if None not in row.values()}
    ordered = sorted(row["crowd"] for row in rows.values())

    def quantile(level):
        place = level * (len(ordered) - 1)
        low = ordered[int(place)]
        return low + (place - int(place)) * (ordered[ceil(place)] - low)

    small, middling = quantile(Fraction(1, 3)), quantile(Fraction(2, 3))
    for row in rows.values():
        bill, seats = row["spending"], row["crowd"]
        row["spending"] = "Low" if bill <= 15 else "Middle" if bill <= 40 else "High"
        row["crowd"] = f"{'Small' if seats <= small else 'Middling' if seats <= middling else 'Large'} Places"
    return rows, (small, middling)


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "places.yaml"
    path.write_text(SCHEMA, encoding="utf-8")
    return read_rules(path)


def check(folder, rules, seed, **options):
    raw, *known = random_places(seed)
    corpus = plan(raw.write(folder), rules, min_reviews=4, **options)
    rows, crowd = plainly_derived(*known)
    assert {row.user_id: row.profile for split in corpus.splits.values() for row in split} == rows
    assert corpus.cuts == {"crowd": crowd}
    assert corpus.ledger.dropped["review", "stars is outside 0.5 to 5"] == 2
    # The proof is of something: users are left, some are dropped, and each value is somebody's.
    assert 30 < len(rows) < 60
    assert {value for row in rows.values() for value in row.values()} >= {v for rule in rules[1:] for v in rule.values}
    assert len({row["score"] for row in rows.values()}) > 3
    return corpus


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_examples_profiles_are_those_of_a_plain_derivation(tmp_path, rules, seed):
    check(tmp_path / "raw", rules, seed)


@pytest.mark.slow
def test_spark_derives_the_example_alike(tmp_path, rules):
    pytest.importorskip("pyspark")
    check(tmp_path / "raw", rules, 1, engine="local[2]")


def test_threads_and_the_order_of_lines_change_nothing(tmp_path, rules):
    raw, *_ = random_places(3)
    twin = {"WiFi": "'paid'", "NoiseLevel": "quiet"}
    raw.businesses.append(raw.businesses[0] | {"attributes": twin})
    first = plan(raw.write(tmp_path / "plain"), rules, min_reviews=4)
    second = plan(raw.write(tmp_path / "other", shuffle=True, gz=True), rules, min_reviews=4, threads=1)
    assert (first.splits, first.ledger, first.cuts) == (second.splits, second.ledger, second.cuts)
    assert first.ledger.dropped["business", "duplicate business_id"] == 1


def test_the_examples_business_tells_what_it_says(rules):
    attributes = json.loads(BUSINESS)["attributes"]
    texts = {name: text if isinstance(text, str) else json.dumps(text) for name, text in attributes.items()}
    told = {rule.key: rule.told([texts.get(name) for name in rule.sources]) for rule in rules[1:]}
    assert told == {
        "wifi": (1, 0, 0),
        "noise": (None, None, None),
        "spending": (22500,),
        "crowd": (None,),
        "cuisine": (1, 1, 0),
    }


def test_a_bound_and_a_half_are_where_the_examples_comments_say(rules):
    score, _, _, spending, *_ = rules
    assert [score.rating_label(total, 1) for total in (3740, 3750)] == ["3.5", "4"]
    assert [spending.share_label(total, 1) for total in (15000, 15010, 40000)] == ["Low", "Middle", "Middle"]


def test_what_no_business_tells_is_said_but_of_the_unknown(tmp_path, rules):
    raw, *_ = random_places(0)
    for business in raw.businesses:
        business["attributes"] = {"WiFi": "free", "NoiseLevel": "roaring", "seats": "many"}
    with pytest.raises(ValueError) as refused:
        plan(raw.write(tmp_path / "raw"), rules, min_reviews=4)
    told = str(refused.value)
    assert "WiFi: no business has Paid in WiFi." in told
    assert "Noise: no business has Quiet, Average, Loud in NoiseLevel." in told
    assert "Crowd: no business has a number that counts in seats." in told
    assert "Cuisine: no business has Thai, Sushi, Pizza in attributes.cuisines." in told
    assert "users: no evidence for noise (60)" in told


def test_the_report_and_the_card_say_where_means_are_cut(tmp_path, rules):
    corpus = check(tmp_path / "raw", rules, 1)
    small, middling = map(float, corpus.cuts["crowd"])
    said = f"Crowd is Middling Places above {small:.3f}, Large Places above {middling:.3f}, quantiles of users' means,"
    assert f"{said} and Small Places elsewhere." in render_report("default", corpus)
    score, wifi, noise, spending, crowd, cuisine = (_explain(rule).partition("**: ")[2] for rule in rules)
    assert score == "the value nearest to the mean rating; halfway between two, the higher."
    assert noise == "the one that most businesses have for `NoiseLevel`; ties go to the first in the order above."
    assert wifi.endswith("ties go to the first in the order above, and one that tells nothing has No.")
    cut = "by the mean of `{}`, from the lowest to the highest, cut at {}; a mean at a cut is below it."
    assert spending == cut.format("average_bill", "15, 40")
    assert crowd == cut.format("seats", "quantiles of all users' means")
    assert cuisine.startswith("the one that most businesses have in `attributes.cuisines`;")


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, "leave the attribute out of the schema"),
        (1, "take another `of`, or leave"),
        (2, "add `unknown`, the value of the businesses that tell nothing, or take another `of`, or leave"),
        (3, "give other `bounds`, or `quantiles: true` in their place, or leave"),
        (4, "take another `of`, or leave"),
        (5, "give other `values`, or leave"),
    ],
)
def test_a_warning_of_a_constant_says_what_to_change(rules, place, change):
    rule = rules[place]
    (warning,) = warn_of_constants([rule], {rule.key: Counter({rule.values[0]: 9})}, 9)
    assert change in warning
