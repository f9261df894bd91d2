"""Who is drawn, and what their rows show: the newest reviews with a photo that decodes.

Users are drawn by the photos that are listed, and of these photos only those that their rows would show are opened.
One that does not decode counts as not listed: its users' rows are chosen again, and a user who then has too few
reviews with a photo gives way to the next by the hash. So the rows are what they would be if every listed photo had
been opened before anybody was drawn.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _
from ibis.backends import BaseBackend

from . import derivation
from .corpus_config import MMProfileYelpConfig
from .drawing import choose_photos, split_users
from .engines import add_stream, keep, stream
from .photos import Album
from .raw_files import Ledger

PHOTOS = pa.schema({"photo_id": pa.string()})
USERS = pa.schema({"user_id": pa.string(), "place": pa.int64()})
_STRINGS = pa.list_(pa.string())
CHOSEN = pa.schema(
    {
        "review_id": pa.string(),
        "user_id": pa.string(),
        "rank": pa.int64(),
        "of": pa.int64(),
        "photo_ids": _STRINGS,
        "captions": _STRINGS,
    }
)


class Draw:
    """Draws users until each has a row.

    Args:
        histories: all reviews of all users.
        photos: all that are listed, of these ties.
        complete: the users who may be drawn, `user_id`.
    """

    def __init__(
        self,
        backend: BaseBackend,
        config: MMProfileYelpConfig,
        album: Album,
        ledger: Ledger,
        scratch: Path,
        histories: ibis.Table,
        photos: ibis.Table,
        ties: Sequence[int],
        complete: ibis.Table,
    ) -> None:
        self.backend, self.config, self.album, self.ledger, self.scratch = backend, config, album, ledger, scratch
        self.histories, self.photos, self.ties, self.complete = histories.drop("text"), photos, ties, complete

    def draw(self) -> tuple[dict[str, int], ibis.Table, ibis.Table]:
        """How many users each split has; who they are, in order: `USERS`; and what their rows show: `CHOSEN`."""
        rows: list[ibis.Table] = []  # of users whose rows are settled
        while True:
            sizes, drawn = self._drawn()
            open_ = drawn
            for settled in rows:
                open_ = open_.anti_join(settled, "user_id")
            open_ = keep(self.backend, open_)
            if not _any(open_):
                chosen = ibis.union(*rows) if len(rows) > 1 else rows[0]
                return sizes, drawn, chosen.semi_join(drawn, "user_id")
            rows.append(self._settled(open_))

    def _drawn(self) -> tuple[dict[str, int], ibis.Table]:
        ids = (user for batch in stream(self.backend, self.complete) for user in batch.column("user_id").to_pylist())
        try:
            splits = split_users(ids, self.config.seed, self.config.split_sizes, self.config.all_users)
        except ValueError as error:
            raise ValueError(f"{error}. {self.ledger}") from None
        users = [user for split in splits.values() for user in split]
        batch = pa.record_batch([users, range(len(users))], USERS)
        return {split: len(users) for split, users in splits.items()}, self._add([batch], USERS)

    def _settled(self, users: ibis.Table) -> ibis.Table:
        """The rows of those of the users whose photos decode; who has too few reviews is no longer complete."""
        reviews = self.histories.semi_join(users, "user_id")
        tied = derivation.with_tied(reviews, self.photos, self.ties)
        shown = keep(self.backend, derivation.newest(tied.filter(_.tied).drop("tied"), self.config.max_reviews))
        least = self.config.min_photo_reviews
        short = keep(self.backend, users.anti_join(derivation.with_at_least(shown, least), "user_id"))
        if number := short.count().to_pyarrow().as_py():
            self.ledger.drop("users", f"fewer than {least} reviews with a photo", number)
            self.complete = keep(self.backend, self.complete.anti_join(short, "user_id"))
            shown = shown.anti_join(short, "user_id")
        chosen = self._add(self._choices(shown), CHOSEN)
        bad = self._unusable(chosen)
        if bad is None:
            return chosen
        self.photos = keep(self.backend, self.photos.anti_join(bad, "photo_id"))
        hit = chosen.select("user_id", photo_id=_.photo_ids.unnest()).semi_join(bad, "photo_id")
        return keep(self.backend, chosen.anti_join(hit, "user_id"))

    def _choices(self, shown: ibis.Table) -> Iterator[pa.RecordBatch]:
        """Each review of the rows with its photos, chosen among all that belong to it."""
        for batch in stream(self.backend, derivation.with_photos(shown, self.photos, self.ties)):
            owned = zip(*(_listed(batch.column(f"photos_{tie}")) for tie in self.ties), strict=True)
            photo_ids, captions = [], []
            for user, several in zip(batch.column("user_id").to_pylist(), owned, strict=True):
                found = dict(chain.from_iterable(several))
                photo_ids.append(choose_photos(user, found, self.config.max_images_per_review))
                captions.append([found[photo_id].strip() for photo_id in photo_ids[-1]])
            kept = [batch.column(name) for name in CHOSEN.names[:4]]
            lists = [pa.array(several, _STRINGS) for several in (photo_ids, captions)]
            yield pa.record_batch([*kept, *lists], CHOSEN)

    def _unusable(self, chosen: ibis.Table) -> ibis.Table | None:
        """Those of the photos that do not decode; None if all do."""
        photos = chosen.select(photo_id=_.photo_ids.unnest()).distinct()
        number = photos.count().to_pyarrow().as_py()
        ids = (photo for batch in stream(self.backend, photos) for photo in batch.column("photo_id").to_pylist())
        bad = self.album.prove(ids, number, self.config.workers, self.ledger)
        return self._add([pa.record_batch([bad], PHOTOS)], PHOTOS) if bad else None

    def _add(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> ibis.Table:
        return add_stream(self.backend, batches, schema, self.scratch)


def _listed(photos: pa.Array) -> Iterator[list[tuple[str, str]]]:
    """Of each list of photos the ids and captions; of a null none."""
    lengths = pc.fill_null(pc.list_value_length(photos), 0).to_pylist()
    every = photos.flatten()
    pairs = zip(*(every.field(name).to_pylist() for name in ("photo_id", "caption")), strict=True)
    return (list(islice(pairs, length)) for length in lengths)


def _any(table: ibis.Table) -> bool:
    return bool(table.limit(1).count().to_pyarrow().as_py())
