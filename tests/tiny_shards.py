"""A corpus of which each split is in several Parquet files, each of several row groups."""

from datasets import Dataset

from tests.tiny_corpus import features, user


def write_shards(folder, users=24, files=3, group=3, changed=None, **options) -> None:
    """A folder that `load_dataset` takes: the users of the training split in files of row groups of `group` users or
    fewer, validation and test in one file each.

    `changed`: number of a training user -> what of the row is another.
    """
    folder.mkdir(parents=True)
    rows = [user(number, **options) | (changed or {}).get(number, {}) for number in range(users)]
    cuts = [users * file // files for file in range(files + 1)]
    for file, (first, last) in enumerate(zip(cuts, cuts[1:], strict=False)):
        name = f"train-{file:05d}-of-{files:05d}.parquet"
        Dataset.from_list(rows[first:last], features=features()).to_parquet(folder / name, batch_size=group)
    for number, name in enumerate(("validation", "test"), start=1):
        rows = [user(100 * number + index, **options) for index in range(4)]
        Dataset.from_list(rows, features=features()).to_parquet(folder / f"{name}-00000-of-00001.parquet")
