"""What is drawn by a hash, the same on every machine, in every run: photos of a review, and users of a split."""

from collections.abc import Iterable
from hashlib import blake2b
from heapq import nsmallest
from operator import itemgetter


def hash_order(*parts: str | int) -> bytes:
    """A key that sorts by a hash of `parts`: the same on every machine, in every run."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()


def choose_photos(user_id: str, photo_ids: Iterable[str], limit: int) -> tuple[str, ...]:
    """Up to `limit` photos, by a hash of (user_id, photo_id)."""
    different = list(set(photo_ids))
    if len(different) > 1:  # of one no hash is needed, which costs more than all else
        different.sort(key=lambda photo_id: hash_order(user_id, photo_id))
    return tuple(different[:limit])


def split_users(
    user_ids: Iterable[str], seed: int, sizes: dict[str, int], all_users: bool
) -> dict[str, tuple[str, ...]]:
    """Draws the users of each split by a hash of (seed, user_id).

    Args:
        user_ids: at least one a split, in any order; no more of them are held than are drawn.
        seed: another seed is another draw.
        sizes: users of each split, by name; the first takes what rounding leaves over. Where there are fewer users
            than their sum, or `all_users`, they are proportions.
        all_users: keep every user, not only as many as `sizes` add up to.

    Raises:
        ValueError: if there are fewer users than splits.
    """
    total = sum(sizes.values())

    def key(user_id: str) -> bytes:
        return hash_order(seed, user_id)

    ordered = sorted(user_ids, key=key) if all_users else nsmallest(total, user_ids, key=key)
    if len(ordered) < len(sizes):
        raise ValueError(f"{len(sizes)} splits need a user each, but {len(ordered)} users are left")
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


def first_by_hash(ids: Iterable[str], number: int, seed: str) -> list[str]:
    """The first of the different ids by a hash of (seed, id), in its order; twice as many are held at most."""
    first: dict[str, bytes] = {}
    last = None
    for id_ in ids:
        key = hash_order(seed, id_)
        if last is None or key < last:
            first[id_] = key
        if len(first) == 2 * number:
            first = dict(sorted(first.items(), key=itemgetter(1))[:number])
            last = max(first.values())
    return sorted(first, key=first.__getitem__)[:number]
