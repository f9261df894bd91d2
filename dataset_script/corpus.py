"""From raw files to the rows of the corpus: the steps in their order, and who is left at the end.

The engine reads review.json twice: first for the users who wrote enough lines, then for these users' reviews. Python
sees the ids of the users who are left, and the reviews and photos of those who are drawn, some thousand at a time.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import ibis
import pyarrow as pa
from ibis import Deferred, _
from ibis.backends import BaseBackend

from . import derivation
from .corpus_config import MMProfileYelpConfig
from .corpus_draw import Draw
from .corpus_rows import REVIEWS, RowFolder, Rows, Tally, UserRow, whole_rows
from .engines import ATTRIBUTES, TEXT, add_stream, connect, keep, stream
from .photos import Album
from .profile_rules import Rule, decide, sum_columns, told_columns, warn_of_constants
from .raw_files import Ledger, RawFolder
from .raw_records import RawRecords
from .sources import PHOTO_FIELDS, REVIEW_FIELDS

# 2023-12-31, 20231231 or 2023-W52-7, and a time after it or none.
DATE_FORMS = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-?W[0-9]{2}(?:-?[0-9])?)(?:[T ][0-9].*)?"


@dataclass
class Corpus:
    """The rows of each split and their photos, and what a card tells of them.

    Args:
        cuts: by attribute, the quantiles of users' means that part its values; over all users who could be drawn by
            the photos listed, whether these decode or not.
        ledger: what was dropped.
        lines: of the raw files, by what they list; blank ones are none.
        dates: of the first and the last review that a label comes from, `YYYY-MM-DD HH:MM:SS`.
    """

    rules: tuple[Rule, ...]
    splits: Mapping[str, Rows | Sequence[UserRow]]
    album: Album
    cuts: dict[str, tuple[Fraction, ...]]
    ledger: Ledger
    lines: dict[str, int]
    dates: tuple[str, str]
    tally: Tally


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
        with connect(config.engine_or_master, *limits) as backend:
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
        users = self._with_photos(histories, photos, ties)
        totals = derivation.user_totals(histories.semi_join(users, "user_id"), self._evidence(), self.rules)
        complete, number = self._complete(totals)
        cuts = self._cuts(complete, number)
        ids = complete.select("user_id")
        draw = Draw(self.backend, self.config, self.album, self.ledger, self.scratch, histories, photos, ties, ids)
        sizes, drawn, chosen = draw.draw()
        self.ledger.left["users drawn"] = sum(sizes.values())
        profiles = self._profiles(complete.join(drawn, "user_id"), cuts)
        splits, tally = self._rows(histories, chosen, profiles, sizes)
        self.ledger.notes += warn_of_constants(self.rules, tally.values, tally.users)
        return Corpus(self.rules, splits, self.album, cuts, self.ledger, self.lines, self._dates(histories), tally)

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
        fields: dict[str, str] = dict.fromkeys(REVIEW_FIELDS, TEXT)
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
        if not any(_numbers(derivation.odd_dates(judged).limit(1).count())):
            return judged
        judged = self._kept(derivation.respell_common_dates(judged))
        odd = (batch.column("date").to_pylist() for batch in stream(self.backend, derivation.odd_dates(judged)))
        schema = pa.schema({"date": pa.string(), "plain": pa.string()})
        spellings = (pa.record_batch([dates, list(map(_plain_date, dates))], schema) for dates in odd)
        return self._kept(derivation.respell_dates(judged, add_stream(self.backend, spellings, schema, self.scratch)))

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
        fields: dict[str, str] = dict.fromkeys(PHOTO_FIELDS, TEXT)
        _lines, judged = self._read("photos", fields, derivation.judge_photos, _.photo_id == "")
        photos = self._keep_one(self._keep_good(judged, "photos"), "photo_id", "photos")
        (self.lines["photos"],) = _numbers(judged.count())
        counts = photos.group_by("tie").agg(photos=photos.count()).to_pyarrow().to_pydict()
        counts = dict(sorted(zip(*counts.values(), strict=True)))
        if not counts:
            raise ValueError(f"{self.raw.photos} lists no photo that can be used. Dropped: {self.ledger.drops}")
        owners = ", ".join(f"{count:,} to {derivation.OWNERS[tie]}" for tie, count in counts.items())
        self.ledger.notes.append(f"Photos belong by their lines' ids: {owners}.")
        return photos, list(counts)

    def _with_photos(self, histories: ibis.Table, photos: ibis.Table, ties: Sequence[int]) -> ibis.Table:
        """The users who have enough reviews with a photo, by the photos listed."""
        listed, tied = _numbers(photos.count(), derivation.tied_photos(photos, histories, ties).count())
        self.ledger.drop("photos", "belongs to no review that is left", listed - tied)
        least = self.config.min_photo_reviews
        shown = derivation.with_tied(histories.drop("text"), photos, ties).filter(_.tied)
        users = self._kept(derivation.with_at_least(shown, least))
        before = next(reversed(self.ledger.left.values()))
        self._count_users(
            before, users, f"at least {least} reviews with a listed photo", f"fewer than {least} reviews with a photo"
        )
        return users

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
        told = {}
        for rule in (rule for rule in self.rules if rule.key in told_columns(self.rules)):
            told[rule.key] = self._told(rule, good.select(**derivation.attribute_texts(rule)).distinct())
        evidence = derivation.business_evidence(good, self.rules, told)
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

    def _told(self, rule: Rule, texts: ibis.Table) -> ibis.Table:
        """What a business with each of these texts tells, beside them."""
        columns = told_columns(self.rules)[rule.key]
        schema = texts.schema().to_pyarrow()
        for column in columns:
            schema = schema.append(pa.field(column, pa.int64()))

        def parsed() -> Iterator[pa.RecordBatch]:
            for batch in stream(self.backend, texts):
                numbers = [rule.told(row) for row in zip(*batch.to_pydict().values(), strict=True)]
                told = [pa.array([row[place] for row in numbers], pa.int64()) for place in range(len(columns))]
                yield pa.record_batch([*batch.columns, *told], schema)

        told = add_stream(self.backend, parsed(), schema, self.scratch)
        if rule.is_share and not any(_numbers(told[columns[0]].count())):
            said = "true or false" if rule.kind == "majority" else "a number that counts"
            self.ledger.notes.append(f"{rule.name}: no business has {said} in {' or '.join(rule.of)}.")
        return told

    def _complete(self, totals: ibis.Table) -> tuple[ibis.Table, int]:
        """The sums of the users with evidence for every attribute, and how many they are."""
        judged = self._kept(totals.mutate(lacks=derivation.lacking(self.rules)))
        counts = judged.group_by("lacks").agg(users=_.count()).to_pyarrow().to_pylist()
        users = {count["lacks"]: count["users"] for count in counts}
        complete = users.pop(None, 0)
        for key, count in users.items():
            self.ledger.drop("users", f"no evidence for {key}", count)
        self.ledger.left["users with evidence for every attribute"] = complete
        if complete < len(self.config.split_sizes):
            raise ValueError(
                f"{len(self.config.split_sizes)} splits need a user each, but {self.raw.root} leaves {complete}. "
                f"{self.ledger}"
            )
        return judged.filter(_.lacks.isnull()).drop("lacks"), complete

    def _dates(self, histories: ibis.Table) -> tuple[str, str]:
        (dates,) = histories.aggregate(first=histories.date.min(), last=histories.date.max()).to_pyarrow().to_pylist()
        return dates["first"], dates["last"]

    def _cuts(self, complete: ibis.Table, users: int) -> dict[str, tuple[Fraction, ...]]:
        """By attribute; over everyone who could be drawn, so that `default` and `full` agree on a user."""
        cuts = {}
        for rule, columns in zip(self.rules, sum_columns(self.rules), strict=True):
            if rule.levels:
                found = derivation.of_ranks(complete, columns, rule.ranks(users)).to_pyarrow().to_pydict()
                ranks, *sums = (found[name] for name in ("rank", *columns))
                cuts[rule.key] = rule.quantile_cuts(users, dict(zip(ranks, zip(*sums, strict=True), strict=True)))
        return cuts

    def _profiles(self, totals: ibis.Table, cuts: Mapping[str, Sequence[Fraction]]) -> ibis.Table:
        """Of each user drawn the place among them, the profile as JSON, and how many reviews were written."""
        schema = pa.schema({"user_id": pa.string(), "place": pa.int64(), "profile": pa.string(), "wrote": pa.int64()})

        def decided() -> Iterator[pa.RecordBatch]:
            for batch in stream(self.backend, totals):
                users = batch.to_pylist()
                profiles = [json.dumps(decide(self.rules, user, cuts)) for user in users]
                columns = ([user[name] for user in users] for name in ("user_id", "place", "reviews"))
                user_ids, places, wrote = columns
                yield pa.record_batch([user_ids, places, profiles, wrote], schema)

        return add_stream(self.backend, decided(), schema, self.scratch)

    def _rows(
        self, histories: ibis.Table, chosen: ibis.Table, profiles: ibis.Table, sizes: Mapping[str, int]
    ) -> tuple[dict[str, Rows], Tally]:
        """Writes the rows, user after user as they were drawn, reviews from the newest to the oldest."""
        reviews = histories.join(chosen.drop("user_id"), "review_id").join(profiles, "user_id")
        reviews = reviews.select(*REVIEWS.names, "rank").order_by("place", "rank").drop("rank")
        folder, tally, splits = RowFolder(self.config.scratch), Tally(), {}

        def counted(batches: Iterable[tuple[str, pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
            for _split, batch in batches:
                tally.add(batch)
                yield batch

        for split, batches in groupby(whole_rows(stream(self.backend, reviews), sizes), itemgetter(0)):
            splits[split] = Rows(folder, split)
            splits[split].write(counted(batches))
        return splits, tally


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
