"""From raw files to the rows of the corpus: the steps in their order, and who is left at the end.

The engine reads review.json twice: first for the users who wrote enough lines, then for these users' reviews. Python
sees the users who are left, and the reviews and photos of those who are drawn.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import ibis
import pyarrow as pa
from ibis import Deferred, _
from ibis.backends import BaseBackend

from . import derivation
from .corpus_config import MMProfileYelpConfig
from .drawing import choose_photos, split_users
from .engines import ATTRIBUTES, TEXT, add_rows, connect, keep
from .photos import Album
from .profile_rules import Profile, Rule, decide, quantile_cuts, sum_columns, told_columns, warn_of_constants
from .raw_files import Ledger, RawFolder
from .raw_records import RawRecords

# 2023-12-31, 20231231 or 2023-W52-7, and a time after it or none.
DATE_FORMS = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-?W[0-9]{2}(?:-?[0-9])?)(?:[T ][0-9].*)?"


class Review(NamedTuple):
    """A review of a row; `date` is `YYYY-MM-DD HH:MM:SS`."""

    review_id: str
    user_id: str
    business_id: str
    date: str
    stars: float
    text: str


class Photo(NamedTuple):
    photo_id: str
    caption: str


class RowReview(NamedTuple):
    """A review of a row, with its photos in the order of the row."""

    review: Review
    photos: tuple[Photo, ...]


class UserRow(NamedTuple):
    """A row of the dataset, its photos not yet read."""

    user_id: str
    reviews: tuple[RowReview, ...]
    profile: Profile


@dataclass
class Corpus:
    """The rows of each split and their photos, and what a card tells of them.

    Args:
        cuts: by attribute, the quantiles of users' means that part its values.
        ledger: what was dropped.
        lines: of the raw files, by what they list; blank ones are none.
        dates: of the first and the last review that a label comes from, `YYYY-MM-DD HH:MM:SS`.
        written: of the users of the rows, how many reviews of a fitting length each wrote, and how many of these have
            a photo, before the newest were taken.
    """

    rules: tuple[Rule, ...]
    splits: dict[str, tuple[UserRow, ...]]
    album: Album
    cuts: dict[str, tuple[Fraction, ...]]
    ledger: Ledger
    lines: dict[str, int]
    dates: tuple[str, str]
    written: dict[str, tuple[int, int]]


def plan_corpus(
    raw: RawFolder, config: MMProfileYelpConfig, rules: Sequence[Rule], album: Album | None = None
) -> Corpus:
    """Reads the raw files and derives every row, the photos' bytes apart.

    Args:
        album: another way to the photos than that of the config.

    Raises:
        ValueError: if fewer users than splits are left; the message says where the others went. Or if the engine
            cannot go on: a line of endless length, no memory, no space in scratch.
    """
    with tempfile.TemporaryDirectory(prefix="mmprofile-", dir=config.scratch or None) as scratch:
        limits = (config.memory_limit, config.threads, Path(scratch))
        with connect(config.engine, *limits) as backend:
            return _Plan(raw, config, tuple(rules), backend, Path(scratch), album).corpus()


class _Plan:
    """The steps of a build over one engine, in the order of `corpus`."""

    def __init__(
        self,
        raw: RawFolder,
        config: MMProfileYelpConfig,
        rules: tuple[Rule, ...],
        backend: BaseBackend,
        scratch: Path,
        album: Album | None,
    ) -> None:
        self.raw, self.config, self.rules, self.backend, self.scratch = raw, config, rules, backend, scratch
        self.ledger, self.lines = Ledger(), {}
        self.records = RawRecords(raw, backend, config.memory_limit, config.threads, scratch, self.ledger)
        self.album = album or Album(raw, config.max_photo_bytes, config.max_photo_pixels, config.image_size)

    def corpus(self) -> Corpus:
        for rule in self.rules:
            if rule.schema_name != rule.name:
                self.ledger.notes.append(f"{rule.name} is {rule.schema_name} in a model's profiles.")
        photos, ties = self._photos()
        histories = self._histories(photos, ties)
        photos = self._proved(photos, histories, ties)
        shown, users = self._shown(histories, photos, ties)
        totals = derivation.user_totals(histories.semi_join(users, "user_id"), self._evidence(), self.rules)
        complete = self._complete(totals.to_pyarrow().to_pylist())
        # Over everyone who could be drawn, so that `default` and `full` agree on a user.
        cuts = quantile_cuts(self.rules, complete.values())
        drawn = split_users(complete, self.config.seed, self.config.split_sizes, self.config.all_users)
        self.ledger.left["users drawn"] = sum(map(len, drawn.values()))
        users = [user for users in drawn.values() for user in users]
        rows, with_photo = self._rows(histories, shown, photos, ties, users)

        def row_of(user: str) -> UserRow:
            profile = cast(Profile, decide(self.rules, complete[user], cuts))  # no None, for it is complete
            return UserRow(user, tuple(rows[user]), profile)

        splits = {split: tuple(map(row_of, users)) for split, users in drawn.items()}
        profiles = [row.profile for rows in splits.values() for row in rows]
        self.ledger.notes += warn_of_constants(self.rules, profiles)
        written = {user: (complete[user]["reviews"], with_photo[user]) for user in users}
        return Corpus(self.rules, splits, self.album, cuts, self.ledger, self.lines, self._dates(histories), written)

    def _read(
        self,
        role: str,
        fields: Mapping[str, str],
        made_of: Callable[[ibis.Table], ibis.Table],
        is_none: Deferred,
    ) -> tuple[ibis.Table, ibis.Table]:
        """The records of a role, and what is made of them, kept.

        Args:
            is_none: of what is made, which rows are of lines that may be no records.
        """

        def read(copied: bool) -> tuple[ibis.Table, ibis.Table]:
            lines = self.records.read(role, fields, copied)
            return lines, self._kept(made_of(lines))

        lines, made = read(copied=False)
        # To copy each file costs more than all else.
        lacks = self.records.may_lack(role) and any(_numbers(made.filter(is_none).count()))
        return read(copied=True) if lacks else (lines, made)

    def _kept(self, table: ibis.Table) -> ibis.Table:
        return keep(self.backend, table)

    def _histories(self, photos: ibis.Table, ties: Sequence[int]) -> ibis.Table:
        """The reviews of a fitting length, of the users who wrote enough of them; texts only where photos are tied."""
        config, least = self.config, self.config.min_reviews
        fields: dict[str, str] = dict.fromkeys(derivation.REVIEW_FIELDS, TEXT)
        lines, counts = self._read("review", fields, lambda lines: derivation.count_lines(lines, least), ~_.has_user)
        active = counts.filter(_.user_id.notnull()).select("user_id", "lines")
        users = counts.filter(_.has_user)
        read, with_id, of_active = (_total(table, "lines") for table in (counts, users, active))
        authors = _total(users, "users")
        self.lines["review"] = read
        self.ledger.left |= {"review lines": read, f"of users with at least {least} lines": of_active}
        self.ledger.drop("review", "malformed JSON, or user_id is missing, null or empty", read - with_id)
        self.ledger.drop("review", f"of a user with fewer than {least} lines", with_id - of_active)

        ratings = next((rule.values for rule in self.rules if rule.kind == "mean_rating"), ())
        words = (config.min_words, config.max_words)
        judged = self._kept(derivation.judge_reviews(lines, active, photos, ties, ratings, *words))
        judged = self._in_plain_dates(judged)
        fitting = self._keep_one(self._keep_good(judged, "review"), "review_id", "review")
        enough = self._kept(derivation.with_at_least(fitting, least))
        histories = fitting.semi_join(enough, "user_id")
        (self.ledger.left["of a fitting length"],) = _numbers(fitting.count())
        self._count_users(
            authors, enough, f"at least {least} of these", f"fewer than {least} reviews of a fitting length"
        )
        return histories

    def _in_plain_dates(self, judged: ibis.Table) -> ibis.Table:
        odd = derivation.odd_dates(judged).to_pyarrow().column("date").to_pylist()
        if not odd:
            return judged
        spellings = pa.table({"date": odd, "plain": pa.array(map(_plain_date, odd), pa.string())})
        return self._kept(derivation.respell_dates(judged, add_rows(self.backend, spellings)))

    def _keep_good(self, judged: ibis.Table, label: str) -> ibis.Table:
        """The records without a reason against them; counts the others."""
        for count in judged.group_by("reason").agg(records=judged.count()).to_pyarrow().to_pylist():
            if count["reason"] is not None:
                self.ledger.drop(label, count["reason"], count["records"])
        return judged.filter(judged.reason.isnull()).drop("reason")

    def _keep_one(self, records: ibis.Table, key: str, label: str) -> ibis.Table:
        """One record an id; counts the others."""
        twice = self._kept(derivation.repeated(records, key))
        if not any(_numbers(twice.count())):
            return records
        doubles = records.semi_join(twice, key)
        chosen = derivation.keep_one(doubles, key, [column for column in records.columns if column != key])
        several, different = _numbers(doubles.count(), twice.count())
        self.ledger.drop(label, f"duplicate {key}", several - different)
        return self._kept(records.anti_join(twice, key).union(chosen.select(records.columns)))

    def _photos(self) -> tuple[ibis.Table, list[int]]:
        """The photos that are listed well, and which ties there are."""
        fields: dict[str, str] = dict.fromkeys(derivation.PHOTO_FIELDS, TEXT)
        _lines, judged = self._read("photos", fields, derivation.judge_photos, _.photo_id == "")
        photos = self._keep_one(self._keep_good(judged, "photos"), "photo_id", "photos")
        (self.lines["photos"],) = _numbers(judged.count())
        counts = photos.group_by("tie").agg(photos=photos.count()).to_pyarrow().to_pydict()
        counts = dict(sorted(zip(*counts.values(), strict=True)))
        if not counts:
            raise ValueError(f"{self.raw.photos} lists no photo that can be used. Dropped: {self._drops()}")
        owners = ", ".join(f"{count:,} to {derivation.OWNERS[tie]}" for tie, count in counts.items())
        self.ledger.notes.append(f"Photos belong by their lines' ids: {owners}.")
        return photos, list(counts)

    def _proved(self, photos: ibis.Table, histories: ibis.Table, ties: Sequence[int]) -> ibis.Table:
        """The photos that decode of all that the histories could show."""
        wanted = self._kept(derivation.tied_photos(photos, histories, ties))
        wanted_ids = wanted.photo_id.to_pyarrow().to_pylist()
        (listed,) = _numbers(photos.count())
        self.ledger.drop("photos", "belongs to no review that is left", listed - len(wanted_ids))
        bad = self.album.prove(wanted_ids, self.config.workers, self.ledger)
        if bad:
            unusable = add_rows(self.backend, pa.table({"photo_id": bad}))
            wanted = self._kept(wanted.anti_join(unusable, "photo_id"))
        return wanted

    def _shown(self, histories: ibis.Table, photos: ibis.Table, ties: Sequence[int]) -> tuple[ibis.Table, ibis.Table]:
        """Each row's reviews, without their texts, and the users who have enough."""
        least = self.config.min_photo_reviews
        tied = derivation.with_tied(histories.drop("text"), photos, ties)
        shown = self._kept(derivation.newest(tied.filter(_.tied).drop("tied"), self.config.max_reviews))
        users = self._kept(derivation.with_at_least(shown, least))
        before = next(reversed(self.ledger.left.values()))
        self._count_users(
            before, users, f"at least {least} reviews with a photo", f"fewer than {least} reviews with a photo"
        )
        return shown, users

    def _count_users(self, before: int, users: ibis.Table, left: str, dropped: str) -> None:
        (after,) = _numbers(users.count())
        self.ledger.left[f"users with {left}"] = after
        self.ledger.drop("users", dropped, before - after)

    def _evidence(self) -> ibis.Table:
        """What each business tells. Python parses each different text of an attribute once."""
        fields = {"business_id": TEXT, "attributes": ATTRIBUTES}
        fields |= {rule.of[0]: TEXT for rule in self.rules if rule.is_of_field}
        _lines, lines = self._read("business", fields, lambda lines: lines, _.business_id.isnull())
        good = lines.filter(_.business_id.fill_null("") != "")
        read, kept, different = _numbers(lines.count(), good.count(), good.business_id.nunique())
        self.lines["business"] = read
        self.ledger.drop("business", "malformed JSON, or business_id is missing, null or empty", read - kept)
        self.ledger.drop("business", "duplicate business_id", kept - different)
        evidence = derivation.business_evidence(good, self.rules, self._told(good))
        evidence = self._kept(evidence if kept == different else derivation.one_a_business(evidence))
        for rule, columns in zip(self.rules, sum_columns(self.rules), strict=True):
            if rule.counts_values:
                sums = evidence.aggregate([_[column].sum().name(column) for column in columns])
                (found,) = sums.to_pyarrow().to_pylist()
                counts = zip(rule.values, map(found.get, columns), strict=True)
                absent = [value for value, count in counts if not count and value != rule.unknown]
                if absent:
                    self.ledger.notes.append(f"{rule.name}: no business has {', '.join(absent)} in {rule.of[0]}.")
        return evidence

    def _told(self, businesses: ibis.Table) -> dict[str, ibis.Table]:
        """By the key of a rule, what the different texts of its attributes tell."""
        told, columns = {}, told_columns(self.rules)
        for rule in (rule for rule in self.rules if rule.key in columns):
            rows = businesses.select(**derivation.attribute_texts(rule)).distinct().to_pyarrow()
            numbers = [rule.told(texts) for texts in zip(*rows.to_pydict().values(), strict=True)]
            for place, column in enumerate(columns[rule.key]):
                rows = rows.append_column(column, pa.array([row[place] for row in numbers], pa.int64()))
            told[rule.key] = add_rows(self.backend, rows)
            if rule.is_share and not any(number is not None for (number,) in numbers):
                said = "true or false" if rule.kind == "majority" else "a number that counts"
                self.ledger.notes.append(f"{rule.name}: no business has {said} in {' or '.join(rule.of)}.")
        return told

    def _complete(self, totals: Iterable[dict[str, int]]) -> dict[str, dict[str, int]]:
        """The sums of the users with evidence for every attribute, by user."""
        complete = {}
        columns = list(zip(self.rules, sum_columns(self.rules), strict=True))
        for user in totals:
            missing = next(
                (rule.key for rule, names in columns if not rule.has_evidence([user[name] for name in names])), None
            )
            if missing:
                self.ledger.drop("users", f"no evidence for {missing}")
            else:
                complete[user["user_id"]] = user
        self.ledger.left["users with evidence for every attribute"] = len(complete)
        if len(complete) < len(self.config.split_sizes):
            raise ValueError(
                f"{len(self.config.split_sizes)} splits need a user each, but {self.raw.root} leaves {len(complete)}. "
                f"Left: {self.ledger.left}. Dropped: {self._drops()}. {' '.join(self.ledger.notes)}"
            )
        return complete

    def _dates(self, histories: ibis.Table) -> tuple[str, str]:
        (dates,) = histories.aggregate(first=histories.date.min(), last=histories.date.max()).to_pyarrow().to_pylist()
        return dates["first"], dates["last"]

    def _drops(self) -> str:
        dropped = sorted(self.ledger.dropped.items())
        return "; ".join(f"{where}: {reason} ({count})" for (where, reason), count in dropped) or "nothing"

    def _rows(
        self, histories: ibis.Table, shown: ibis.Table, photos: ibis.Table, ties: Sequence[int], users: Sequence[str]
    ) -> tuple[dict[str, list[RowReview]], dict[str, int]]:
        """The reviews of the users drawn, newest first, each with its photos; and how many they have with a photo."""
        drawn = add_rows(self.backend, pa.table({"user_id": users}))
        drawn = shown.semi_join(drawn, "user_id").select("review_id", "rank", "of")
        reviews = self._kept(histories.join(drawn, "review_id"))
        owned = defaultdict(list)
        for photo in derivation.tied_photos(photos, reviews, ties).to_pyarrow().to_pylist():
            owner = tuple(photo[key] for key in derivation.TIES[photo["tie"]])
            owned[photo["tie"], owner].append(Photo(photo["photo_id"], photo["caption"].strip()))
        rows, with_photo = defaultdict(list), {}
        table = (
            reviews.select(*Review._fields, "rank", "of")
            .to_pyarrow()
            .sort_by([("user_id", "ascending"), ("rank", "ascending")])
        )
        for *values, _rank, of in zip(*table.to_pydict().values(), strict=True):
            review = Review(*values)
            rows[review.user_id].append(RowReview(review, self._choose(review, owned, ties)))
            with_photo[review.user_id] = of
        return rows, with_photo

    def _choose(
        self, review: Review, owned: Mapping[tuple, Sequence[Photo]], ties: Iterable[int]
    ) -> tuple[Photo, ...]:
        owners = ((tie, tuple(getattr(review, key) for key in derivation.TIES[tie])) for tie in ties)
        photos = {photo.photo_id: photo for owner in owners for photo in owned.get(owner, ())}
        chosen = choose_photos(review.user_id, photos, self.config.max_images_per_review)
        return tuple(photos[photo_id] for photo_id in chosen)


def _numbers(*expressions: ibis.expr.types.IntegerScalar) -> list[int]:
    """Values of scalar expressions."""
    return [expression.to_pyarrow().as_py() for expression in expressions]


def _total(table: ibis.Table, column: str) -> int:
    """The sum of a column; of no rows 0."""
    (total,) = table.aggregate(_[column].sum().name("total")).to_pyarrow().column("total").to_pylist()
    return total or 0


def _plain_date(text: str) -> str | None:
    """The moment as `YYYY-MM-DD HH:MM:SS`, in UTC if it has a time zone; None where it is no form of ISO 8601."""
    # Python takes whatever sign for the T, so that one in 200 of the milliseconds since 1970 is a moment of year 1612.
    if not re.fullmatch(DATE_FORMS, text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(sep=" ", timespec="seconds")
