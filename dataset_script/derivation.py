"""Filter, join and aggregate: from raw lines to the users that a corpus may have, as Ibis expressions for any engine.

Each function takes and gives tables, and runs nothing. Sums are of integers and orders are total, so that neither the
order of the lines nor the number of threads has a say.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import add, or_

import ibis
from ibis import Deferred, _

from .literals import SCALE
from .profile_rules import Rule, sum_columns
from .sources import PHOTO_FIELDS

# What a photo belongs to, by the ids that its line has: a review; a user's visits of a business; a user; a business.
TIES = (("review_id",), ("user_id", "business_id"), ("user_id",), ("business_id",))
OWNERS = ("a review", "a user's visits of a business", "a user", "a business")

# What `str.split` takes for blanks, spelt for the regular expressions of RE2 (DuckDB) and Java (Spark) alike.
_BLANKS = r"\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"

PLAIN_DATE = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]) ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$"
# What most programs write instead: a T for the blank, no seconds, a fraction of one, a Z for UTC, the day alone.
COMMON_DATE = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)?Z?)?\z"
)
# In place of a date that is no number of the unit that it has by a schema's `sources`, or one of no such year.
NO_MOMENT = "no moment"
# Such a number may be the day of a date in its short form, 20231231.
EIGHT_DIGITS = r"^[0-9]{8}\z"
# Without 1d, 0x1p0 and 1_000, which one engine takes for numbers and another does not.
PLAIN_NUMBER = r"^ *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *\z"
PLAIN_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$"


def count_lines(reviews: ibis.Table, least: int) -> ibis.Table:
    """Lines a user: `user_id`, `lines`, for everyone with at least `least`.

    The others are two rows at most, with a null for `user_id`: all users with fewer lines, and all lines without a
    user. `has_user` tells the rows apart, `users` says how many users each stands for.
    """
    counts = reviews.group_by(user_id=_.user_id.fill_null("")).agg(lines=_.count()).mutate(has_user=_.user_id != "")
    named = ibis.ifelse(_.has_user & (_.lines >= least), _.user_id, ibis.null("string"))
    return counts.mutate(user_id=named).group_by("user_id", "has_user").agg(lines=_.lines.sum(), users=_.count())


def with_words(text: ibis.expr.types.StringValue, minimum: int) -> ibis.expr.types.BooleanValue:
    """Whether the text has at least `minimum` words, as `str.split` counts them; 1 to 1,000, no more for RE2.

    A text too short to hold so many is not searched, and the search ends with the last word that it needs.
    """
    found = text.re_search(rf"^[{_BLANKS}]*(?:[^{_BLANKS}]+[{_BLANKS}]+){{{minimum - 1}}}[^{_BLANKS}]")
    return ibis.ifelse(text.length() < 2 * minimum - 1, False, found)


def judge_reviews(
    reviews: ibis.Table,
    users: ibis.Table,
    photos: ibis.Table,
    ties: Collection[int],
    ratings: Sequence[str],
    min_words: int,
    max_words: int,
) -> ibis.Table:
    """The reviews of `users`, `stars` as a number, each with the `reason` that it cannot be used for, or null.

    The text of a review that none of `photos` belongs to is "": no row shows it.

    Args:
        ratings: the lowest first; of none any number is one.
    """
    stars = ibis.ifelse(_.stars.re_search(PLAIN_NUMBER), _.stars.try_cast("float64"), ibis.null("float64"))
    # The text of a list or an object: what an engine makes of a text that is none.
    is_structure = reduce(or_, (_.text.startswith(opening) for opening in ('["', '{"', "[[", "[{")))
    low, high = (ratings[0], ratings[-1]) if ratings else ("-1000000.0", "1000000.0")
    reason = ibis.cases(
        *((_is_empty(_[key]), f"{key} is missing, null or empty") for key in ("review_id", "business_id")),
        (_.stars.isnull(), "stars is missing, null or not a number"),
        (~_.stars.between(float(low), float(high)), f"stars is outside {low} to {high}"),
        (_.date.isnull(), "date is missing or null"),
        (_.date == NO_MOMENT, "date is no number of its unit in `sources`, of a year from 1000 to 9999"),
        (_.date.re_search(PLAIN_NUMBER) & ~_.date.re_search(EIGHT_DIGITS), "date is a number, such as milliseconds"),
        (_.text.isnull(), "text is missing or null"),
        (is_structure, "text is not a string"),
        (~with_words(_.text, min_words), f"fewer than {min_words} words"),
        (with_words(_.text, max_words + 1), f"more than {max_words} words"),
    )
    tied = with_tied(reviews.semi_join(users, "user_id"), photos, ties)
    judged = tied.mutate(stars=stars).mutate(reason=reason)
    return judged.mutate(text=ibis.ifelse(_.tied, _.text, "")).drop("tied")


def _is_empty(column: ibis.expr.types.StringValue) -> ibis.expr.types.BooleanValue:
    return column.isnull() | (column == "")


def odd_dates(judged: ibis.Table) -> ibis.Table:
    """The different dates that are not written `YYYY-MM-DD HH:MM:SS`, or name no day."""
    return judged.filter(_.reason.isnull() & ~_is_plain(_.date)).select("date").distinct()


def _is_plain(date: Deferred) -> Deferred:
    return date.re_search(PLAIN_DATE) & (date >= "0001") & date.try_cast("timestamp").notnull()


def respell_common_dates(judged: ibis.Table) -> ibis.Table:
    """Brings dates of a `COMMON_DATE` to the plain form, so that few are left for Python; those of no day stay."""
    minute = ibis.ifelse(_.date.length() > 10, _.date.substr(11, 5), "00:00")
    second = ibis.ifelse(_.date.substr(16, 1) == ":", _.date.substr(17, 2), "00")
    plain = _.date.substr(0, 10) + " " + minute + ":" + second
    return judged.mutate(date=ibis.ifelse(_.date.re_search(COMMON_DATE) & _is_plain(plain), plain, _.date))


def respell_dates(judged: ibis.Table, spellings: ibis.Table) -> ibis.Table:
    """Brings odd dates to the plain form: `spellings` has `date` and `plain`, null where it is no date."""
    spellings = spellings.rename(odd="date").mutate(is_odd=ibis.literal(True))
    joined = judged.left_join(spellings, [("date", "odd")])
    is_bad = _.reason.isnull() & _.is_odd.fill_null(False) & _.plain.isnull()
    reason = ibis.ifelse(is_bad, "date is not as in 2023-12-31 or 2023-12-31 23:59:59 (ISO 8601)", _.reason)
    return joined.mutate(date=ibis.coalesce(_.plain, _.date), reason=reason).drop("odd", "plain", "is_odd")


def repeated(records: ibis.Table, key: str) -> ibis.Table:
    """The ids that stand in several records."""
    return records.group_by(key).agg(times=_.count()).filter(_.times > 1).select(key)


def keep_one(records: ibis.Table, key: str, order: Sequence[str]) -> ibis.Table:
    """Of the records with one id the first by `order`, columns that are never null."""
    rank = ibis.row_number().over(group_by=key, order_by=list(order))
    return records.mutate(rank=rank).filter(_.rank == 0).drop("rank")


def business_evidence(businesses: ibis.Table, rules: Sequence[Rule], told: Mapping[str, ibis.Table]) -> ibis.Table:
    """What each business tells: a number in thousandths for a share, one 0 or 1 a value for a `top` or a `mode`.

    Null is unknown.

    Args:
        businesses: `business_id`, `attributes`, and each field that a `top` is of.
        told: by the key of each rule of `told_columns`, these columns for the different texts, `attribute_texts`.

    Returns:
        `business_id`, and of `sum_columns` those of each rule of a field, and all of `told_columns`.
    """
    flags = {}
    for rule, columns in zip(rules, sum_columns(rules), strict=True):
        if rule.is_of_field:
            listed = _with_commas_around(_[rule.of[0]])
            flags |= {
                column: listed.contains(f",{value},").fill_null(False).cast("int64")
                for column, value in zip(columns, rule.values, strict=True)
            }
    evidence = businesses.select("business_id", "attributes", **flags)
    for rule in rules:
        if rule.key in told:
            texts = attribute_texts(rule)
            evidence = evidence.mutate(**texts).left_join(told[rule.key], list(texts))
            evidence = evidence.drop(*texts, *(f"{text}_right" for text in texts))
    return evidence.drop("attributes")


def _with_commas_around(listed: Deferred) -> Deferred:
    """A text of values with commas between, or the JSON text of a list of values, as `,value,value,`."""
    text = listed.strip()
    is_list = text.re_search(r'^\[\s*".*"\s*\]$')
    values = text.re_replace(r'^\[\s*"|"\s*\]$', "").re_replace(r'"\s*,\s*"', ",")
    return "," + is_list.ifelse(values, text).re_replace(r"\s*,\s*", ",") + ","


def one_a_business(evidence: ibis.Table) -> ibis.Table:
    """Of several records of a business the one that tells least."""
    order = {f"order_{column}": _[column].fill_null(-1) for column in evidence.columns if column != "business_id"}
    return keep_one(evidence.mutate(**order), "business_id", list(order)).select(evidence.columns)


def attribute_texts(rule: Rule) -> dict[str, Deferred]:
    """The texts of a rule's attributes as columns `text_<n>`, in the order of its `sources`; "" where there is none.

    An attribute may have the name of any other column.
    """
    return {f"text_{n}": _.attributes.get(source).fill_null("") for n, source in enumerate(rule.sources)}


def judge_photos(photos: ibis.Table) -> ibis.Table:
    """Photo lines with `tie`, the index in `TIES` of what each belongs to, and `reason`, as for reviews."""
    ids = {key: _[key].fill_null("") for key in (*PHOTO_FIELDS[:-1], "caption")}
    tie = ibis.cases(
        (_.review_id != "", 0), ((_.user_id != "") & (_.business_id != ""), 1), (_.user_id != "", 2), else_=3
    )
    reason = ibis.cases(
        (_.photo_id == "", "photo_id is missing, null or empty"),
        (~_.photo_id.re_search(PLAIN_NAME), "photo_id is no plain name"),
        ((_.tie == 3) & (_.business_id == ""), "business_id is missing, null or empty"),
    )
    return photos.mutate(**ids).mutate(tie=tie).mutate(reason=reason)


def tied_photos(photos: ibis.Table, reviews: ibis.Table, ties: Collection[int]) -> ibis.Table:
    """The photos that belong to one of `reviews`."""
    found = [
        photos.filter(_.tie == tie).semi_join(reviews.select(*TIES[tie]).distinct(), list(TIES[tie])) for tie in ties
    ]
    return ibis.union(*found) if len(found) > 1 else found[0]


def with_tied(reviews: ibis.Table, photos: ibis.Table, ties: Collection[int]) -> ibis.Table:
    """The reviews with `tied`: whether one of the photos belongs to the review."""
    columns = reviews.columns
    for tie in ties:
        keys = {f"tie_{key}": key for key in TIES[tie]}
        owners = photos.filter(_.tie == tie).select(**keys).distinct().mutate(**{f"tied_{tie}": ibis.literal(True)})
        reviews = reviews.left_join(owners, [reviews[key] == owners[name] for name, key in keys.items()])
        reviews = reviews.drop(*keys)
    tied = reduce(or_, (_[f"tied_{tie}"].fill_null(False) for tie in ties))
    return reviews.select(*columns, tied=tied)


def with_photos(reviews: ibis.Table, photos: ibis.Table, ties: Collection[int]) -> ibis.Table:
    """The reviews with `photos_<tie>` for each tie: a list of the photos, ids and captions, or null."""
    photos = tied_photos(photos, reviews, ties)
    for tie in ties:
        keys = {f"tie_{key}": key for key in TIES[tie]}
        photo = ibis.struct({"photo_id": _.photo_id, "caption": _.caption})
        owners = photos.filter(_.tie == tie).group_by(**{name: _[key] for name, key in keys.items()})
        owners = owners.agg(**{f"photos_{tie}": photo.collect()})
        reviews = reviews.left_join(owners, [reviews[key] == owners[name] for name, key in keys.items()]).drop(*keys)
    return reviews


def with_at_least(records: ibis.Table, minimum: int) -> ibis.Table:
    """The users who have so many records: `user_id`."""
    return records.group_by("user_id").agg(records=_.count()).filter(_.records >= minimum).select("user_id")


def newest(reviews: ibis.Table, limit: int) -> ibis.Table:
    """Each user's newest reviews, up to `limit`, by `rank`, `of` so many; those of one moment by their ids."""
    order = [ibis.desc("date"), ibis.asc("review_id")]
    rank = ibis.row_number().over(group_by="user_id", order_by=order)
    of = _.review_id.count().over(group_by="user_id")
    return reviews.mutate(rank=rank, of=of).filter(_.rank < limit)


def user_totals(reviews: ibis.Table, evidence: ibis.Table, rules: Sequence[Rule]) -> ibis.Table:
    """Each user's sums, all integers: `reviews`, `ratings` in thousandths, and of the businesses visited, each once,
    the `sum_columns` of the rules: sum and count of every share, how many tell every value of a `top` or a `mode`.
    """
    visits = reviews.group_by("user_id", "business_id").agg(
        reviews=_.count(), ratings=(_.stars * SCALE).round().cast("int64").sum()
    )
    visits = visits.left_join(evidence, "business_id")
    sums = {"reviews": _.reviews.sum(), "ratings": _.ratings.sum()}
    for rule, columns in zip(rules, sum_columns(rules), strict=True):
        if rule.counts_values:
            unknown = [int(value == rule.unknown) for value in rule.values]
            sums |= {
                column: _[column].fill_null(counted).sum() for column, counted in zip(columns, unknown, strict=True)
            }
        elif rule.is_share:
            total, count = columns
            told = _[total].fill_null(0) if rule.counts_unknown else _[total]
            sums |= {total: told.sum().fill_null(0), count: told.count()}
    return visits.group_by("user_id").agg(**sums)


def lacking(rules: Sequence[Rule]) -> ibis.expr.types.StringValue | Deferred:
    """Of `user_totals`: the key of the first rule without evidence, as `Rule.has_evidence` has it; null for none."""
    lacks = []
    for rule, columns in zip(rules, sum_columns(rules), strict=True):
        if rule.counts_values:
            present = reduce(add, ((_[column] > 0).cast("int64") for column in columns))
            lacks.append((present < rule.count, rule.key))
        elif rule.is_share:
            lacks.append((_[columns[1]] == 0, rule.key))
    return ibis.cases(*lacks) if lacks else ibis.null("string")


def of_ranks(totals: ibis.Table, columns: Sequence[str], ranks: Sequence[int]) -> ibis.Table:
    """The users at these ranks by their means, the lowest at 0: `rank`, and the sum and the count of each.

    Args:
        columns: of the sum and the count, which is never 0.
    """
    total, count = columns
    # Two means that differ may be one float. Their whole numbers are exact up to 2**53, and of what is left no two are
    # one float where counts are below 2**26.
    left = _[total] % _[count]
    whole = ((_[total] - left) / _[count]).round().cast("int64")
    means = totals.select(total, count, whole=whole, part=left / _[count])
    # Not by an offset, for which Ibis asks Spark with a column too many.
    ranked = means.mutate(rank=ibis.row_number().over(order_by=["whole", "part"]))
    return ranked.filter(_.rank.isin(ranks)).select("rank", total, count)
