"""The expressions at their borders: words as `str.split` counts them, the last of equals, and one record an id."""

import itertools
import random
import statistics
from fractions import Fraction

import ibis
import pytest

from dataset_script.corpus import _plain_date
from dataset_script.derivation import (
    business_evidence,
    keep_one,
    lacking,
    newest,
    odd_dates,
    of_ranks,
    respell_common_dates,
    with_words,
)
from dataset_script.literals import SCALE
from dataset_script.profile_rules import Rule, sum_columns
from dataset_script.schema_rule import OPTIONS

BLANKS = [chr(code) for code in range(0x3001) if chr(code).isspace()]


@pytest.fixture(scope="module")
def backend():
    return ibis.duckdb.connect()


def holds(backend, texts, minimum):
    table = ibis.memtable({"n": range(len(texts)), "text": texts})
    found = backend.to_pyarrow(table.mutate(holds=with_words(table.text, minimum)).order_by("n"))
    return found.column("holds").to_pylist()


@pytest.mark.parametrize("minimum", [1, 2, 5, 301])
def test_words_are_counted_as_python_splits_a_text(backend, minimum):
    rng = random.Random(minimum)
    letters = [*"aZ9.-", "\u00e9", "\u200b", "\U0001f355", *rng.sample(BLANKS, 5), " ", "\n"]
    texts = ["".join(rng.choices(letters, k=rng.randint(0, 4 * minimum))) for _ in range(400)]
    texts += [blank.join(["w"] * n) + blank for blank in BLANKS for n in (minimum - 1, minimum)]
    assert holds(backend, texts, minimum) == [len(text.split()) >= minimum for text in texts]


def test_the_longest_count_is_searched(backend):
    assert holds(backend, ["w " * 999, "w " * 1000], 1000) == [False, True]


def test_the_newest_stand_first_and_equals_by_their_ids(backend):
    rows = [("a", "2020"), ("c", "2021"), ("b", "2021"), ("d", "2019")]
    for _, order in zip(range(24), itertools.permutations(rows), strict=True):
        table = ibis.memtable(
            {"user_id": ["u"] * 4, "review_id": [r for r, _ in order], "date": [d for _, d in order]}
        )
        shown = backend.to_pyarrow(newest(table, 3).order_by("rank"))
        assert shown.column("review_id").to_pylist() == ["b", "c", "a"]


def test_of_the_records_of_one_id_the_first_by_the_order_stays(backend):
    for order in ([1, 2, 3], [3, 2, 1], [2, 1, 3]):
        table = ibis.memtable({"id": ["x"] * 3 + ["y"], "value": [*order, 9]})
        kept = backend.to_pyarrow(keep_one(table, "id", ["value"]).order_by("id"))
        assert kept.to_pydict() == {"id": ["x", "y"], "value": [1, 9]}


PRICES = Rule("Price", ("Low", "High"), "above_median", of=("price",), yes="High")


QUARTERS = Rule("Size", ("S", "M", "L", "XL"), "mean_cut", of=("size",), quantiles=True)
NAMED = Rule("Size", ("S", "M", "L"), "mean_cut", of=("size",), quantiles=(0.1, 0.37))


def cuts_by_engine(backend, rule, sums):
    table = ibis.memtable([{"sum_0": total, "count_0": count} for total, count in sums])
    found = backend.to_pyarrow(of_ranks(table, ["sum_0", "count_0"], rule.ranks(len(sums)))).to_pylist()
    assert len(found) <= 2 * len(rule.levels)
    return rule.quantile_cuts(len(sums), {user["rank"]: (user["sum_0"], user["count_0"]) for user in found})


def cuts_by_hand(rule, sums):
    """The definition, in fractions of all users."""
    means, cuts = sorted(Fraction(total, SCALE * count) for total, count in sums), []
    for level in rule.levels:
        place = level * (len(means) - 1)
        below, above = means[int(place)], means[min(int(place) + 1, len(means) - 1)]
        cuts.append(below + (place - int(place)) * (above - below))
    return tuple(cuts)


@pytest.mark.parametrize("users", [1, 2, 3, 10, 11, 500, 501])
@pytest.mark.parametrize("rule", [PRICES, QUARTERS, NAMED], ids=["median", "quarters", "named"])
@pytest.mark.parametrize("largest", [30, 10**7, 10**15])
def test_the_engine_finds_the_users_around_a_quantile_and_the_cuts_are_exact(backend, users, rule, largest):
    rng = random.Random(users)
    sums = [(rng.randint(-largest, largest), rng.randint(1, 300)) for _ in range(users)]
    cuts = cuts_by_engine(backend, rule, sums)
    assert cuts == cuts_by_hand(rule, sums)
    if rule is PRICES:
        assert cuts == (statistics.median(Fraction(total, SCALE * count) for total, count in sums),)
    elif rule is QUARTERS and users > 1:
        means = [Fraction(total, SCALE * count) for total, count in sums]
        assert cuts == tuple(statistics.quantiles(means, n=4, method="inclusive"))


def test_means_that_are_one_float_are_ranked_nevertheless(backend):
    sums = [(3 * 10**15 + left, 300_000 + count) for left in range(20) for count in range(20)]
    sums += [(-total, count) for total, count in sums] + [(10**15 * count + 1, count) for count in range(2, 200)]
    assert len({total / count for total, count in sums}) < len({Fraction(total, count) for total, count in sums})
    random.Random(0).shuffle(sums)
    rule = Rule("Size", tuple("abcdefghij"), "mean_cut", of=("size",), quantiles=True)
    assert cuts_by_engine(backend, rule, sums) == cuts_by_hand(rule, sums)


def test_labels_above_the_median_are_those_of_floats(backend):
    rng = random.Random(0)
    for users in (1, 2, 7, 50, 401):
        counts = [rng.randint(1, 4) for _ in range(users)]
        sums = [(sum(SCALE * rng.randint(1, 4) for _ in range(count)), count) for count in counts]
        means = [total / (SCALE * count) for total, count in sums]
        high = ["High" if mean > statistics.median(means) else "Low" for mean in means]
        cuts = cuts_by_engine(backend, PRICES, sums)
        assert [PRICES.share_label(*user, cuts) for user in sums] == high


EVERY_KIND = [
    Rule("Stars", ("1", "2"), "mean_rating"),
    Rule("Favorite", ("a", "b", "c"), "top", count=2, of=("categories",)),
    Rule("Dishes", ("a", "b", "c"), "top", count=2, of=("attributes.Dishes",)),
    Rule("Noise", ("Quiet", "Loud"), "mode", of=("NoiseLevel",)),
    Rule("Dress", ("Casual",), "mode", of=("Attire",), unknown="Casual"),
    Rule("Meal", ("Lunch", "Dinner"), "majority", of=("lunch",), yes="Lunch"),
    Rule("Wifi", ("Yes", "No"), "majority", of=("wifi",), yes="Yes", unknown="no"),
    PRICES,
    Rule("Seats", ("Few", "Many"), "mean_cut", of=("seats",), bounds=(20,)),
    QUARTERS,
]


def test_every_kind_of_rule_is_among_those():
    assert {rule.kind for rule in EVERY_KIND} == set(OPTIONS)


@pytest.mark.parametrize("rules", [EVERY_KIND, *([rule] for rule in EVERY_KIND)], ids=lambda rules: rules[-1].key)
def test_the_engine_finds_who_lacks_evidence_as_a_rule_does(backend, rules):
    rng, columns = random.Random(0), sum_columns(rules)
    names = sorted({name for several in columns for name in several})
    totals = [{name: int(rng.random() < 0.8) for name in names} for _ in range(1_000)]

    def first_without(user):
        pairs = zip(rules, columns, strict=True)
        return next((rule.key for rule, several in pairs if not rule.has_evidence([user[n] for n in several])), None)

    table = ibis.memtable([user | {"n": n} for n, user in enumerate(totals)])
    found = backend.to_pyarrow(table.mutate(lacks=lacking(rules)).order_by("n")).column("lacks").to_pylist()
    assert found == list(map(first_without, totals))
    assert set(found) == {None, *(rule.key for rule in rules if rule.kind != "mean_rating")}


def spellings(rng, count):
    """Dates in every common form, and such with a character or two that another takes the place of, or that go."""
    for _ in range(count):
        day = f"{rng.choice([1, 1999, 2000, 2023, 2024]):04}-{rng.randint(0, 13):02}-{rng.randint(0, 32):02}"
        blank, zone = rng.choice(["T", " ", "t", ""]), rng.choice(["", "", "Z", "z", "+02:00", "-23:59"])
        time = rng.choice(
            ["", "23:59", "10", f"{rng.randint(0, 25):02}:{rng.randint(0, 61):02}:{rng.randint(0, 61):02}"]
        )
        fraction = rng.choice(["", "", ".5", ",123", ".", ".1234567890", "\n"])
        date = list(day + rng.choice(["", blank + time + fraction + zone]))
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            date[rng.randrange(len(date))] = rng.choice(["", *"0129-:.,TWZ \n\u0661"])
        yield "".join(date)


def test_the_engine_spells_common_dates_as_python_does_and_leaves_it_the_others(backend):
    dates = sorted(set(spellings(random.Random(0), 60_000)))
    table = ibis.memtable({"n": range(len(dates)), "date": dates, "reason": [None] * len(dates)})
    table = backend.create_table("dates", table.cast({"reason": "string"}))
    spelt = respell_common_dates(table)
    left = set(backend.to_pyarrow(odd_dates(spelt)).column("date").to_pylist())
    result = dict(zip(dates, backend.to_pyarrow(spelt.order_by("n")).column("date").to_pylist(), strict=True))
    by_engine = {date: plain for date, plain in result.items() if plain not in left}
    assert {date: _plain_date(date) for date in by_engine} == by_engine
    assert len(by_engine) > 2_000
    assert all(result[date] == date for date in left) and len(left) > 2_000


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("Pizza, Coffee & Tea", [1, 1]),
        (" Pizza ,Coffee", [1, 0]),
        ('["Pizza", "Coffee & Tea"]', [1, 1]),
        ('[ "Coffee & Tea" ,"Pizza" ]', [1, 1]),
        ('["Pizza"]', [1, 0]),
        ("[]", [0, 0]),
        ('["Pizza', [0, 0]),
        (None, [0, 0]),
    ],
)
def test_values_stand_with_commas_between_or_as_a_json_list(backend, text, flags):
    schema = {"business_id": "string", "attributes": "map<string, string>", "categories": "string"}
    table = ibis.memtable([{"business_id": "b", "attributes": None, "categories": text}], schema=schema)
    rules = [Rule("Favorite", ("Pizza", "Coffee & Tea"), "top", of=("categories",))]
    evidence = backend.to_pyarrow(business_evidence(table, rules, {}))
    assert evidence.to_pylist() == [{"business_id": "b", "top_0_0": flags[0], "top_0_1": flags[1]}]
