"""A raw folder as archives unpack it: files one folder deeper, archives not unpacked, links to another disk."""

import shlex
import subprocess
import tarfile
import zipfile

import pytest

from dataset_script.mmprofile_yelp import build
from dataset_script.raw_files import find_raw_files
from tests.raw_corpus import PROFILES, RULES, config, hand_written, plan, plan_corpus


def profiles(corpus):
    return {row.user_id: row.profile for rows in corpus.splits.values() for row in rows}


@pytest.fixture
def raw(tmp_path):
    return hand_written().write(tmp_path / "raw")


def deeper(raw, **folders):
    """Moves the files of each role, and `photos_folder`, into a folder of the raw folder."""
    for role, folder in folders.items():
        (raw / folder).mkdir(exist_ok=True)
        name = "photos" if role == "photos_folder" else f"yelp_{role}.json"
        (raw / name).rename(raw / folder / name)


@pytest.mark.parametrize(
    "folders",
    [
        {"business": "Yelp JSON", "review": "Yelp JSON", "photos": "Yelp Photos", "photos_folder": "Yelp Photos"},
        {"business": "yelp_dataset", "review": "yelp_dataset"},
        {"photos_folder": "yelp_photos"},
    ],
)
def test_files_one_folder_deeper_are_found(raw, folders):
    deeper(raw, **folders)
    for name in ("__MACOSX", ".Trash"):
        (raw / name).mkdir()
        (raw / name / "yelp_review.json").write_bytes(b"\0\5\x16\7")
    for folder in set(folders.values()):
        (raw / folder / "._yelp_review.json").write_bytes(b"\0\5\x16\7")
    assert profiles(plan(raw)) == PROFILES


def test_files_at_the_top_and_deeper_are_ambiguous(raw):
    (raw / "yelp_dataset").mkdir()
    (raw / "yelp_dataset" / "review.json.gz").touch()
    with pytest.raises(ValueError, match="exactly one file named .*, found yelp_dataset/review.json.gz, yelp_review"):
        find_raw_files(raw)
    (raw / "yelp_dataset" / "review.json.gz").unlink()
    (raw / "yelp_dataset" / "photos").mkdir()
    with pytest.raises(ValueError, match="exactly one folder 'photos', found photos, yelp_dataset/photos"):
        find_raw_files(raw)


def test_files_two_folders_deeper_are_not_looked_for(raw):
    deeper(raw, review="a")
    (raw / "b").mkdir()
    (raw / "a").rename(raw / "b" / "a")
    with pytest.raises(ValueError, match="found none"):
        find_raw_files(raw)


def packed(raw, archive):
    """Packs the raw folder's files, and leaves the archive in their place."""
    files = [path for path in raw.rglob("*") if path.is_file()]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in files:
                file.write(path, "Yelp JSON/" + path.relative_to(raw).as_posix())
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix != ".tar" else "w") as file:
            for path in files:
                file.add(path, path.relative_to(raw).as_posix())
    for path in files:
        path.unlink()
    (raw / "photos").rmdir()


@pytest.mark.parametrize("name", ["yelp_dataset.tar", "it's all.tgz", "a.tar.gz", "Yelp-JSON.zip"])
@pytest.mark.parametrize("folder", ["", "Yelp JSON"])
def test_an_archive_is_told_with_the_command_that_unpacks_it(tmp_path, raw, name, folder):
    archive = tmp_path / name
    packed(raw, archive)
    (raw / folder).mkdir(exist_ok=True)
    archive = archive.rename(raw / folder / name)
    (raw / f"._{name}").touch()
    with pytest.raises(ValueError, match="found none. .* is an archive, which this unpacks:") as told:
        find_raw_files(raw)
    command = shlex.split(str(told.value).splitlines()[-1])
    if command[0] == "unzip":  # which may not be here
        assert command == ["unzip", str(archive), "-d", str(raw)]
        zipfile.ZipFile(archive).extractall(raw)
    else:
        assert command == ["tar", "-xf", str(archive), "-C", str(raw)]
        subprocess.run(command, check=True)
    assert find_raw_files(raw).review.read_bytes().count(b"\n") == len(hand_written().reviews)


def test_each_archive_has_its_command_for_the_photos_too(tmp_path, raw):
    (raw / "photos").rename(tmp_path / "pictures")
    for name in ("photos.tar", "more.zip"):
        (raw / name).touch()
    with pytest.raises(ValueError, match=r"holds no folder 'photos' .*\. more.zip, photos.tar are archives") as told:
        find_raw_files(raw)
    assert [line.split()[0] for line in str(told.value).splitlines() if line.startswith("    ")] == ["unzip", "tar"]


def test_an_archive_in_place_of_the_folder_is_told_with_its_command(tmp_path):
    (tmp_path / "yelp_dataset.tar").touch()
    with pytest.raises(ValueError, match="data_dir must be a folder") as told:
        find_raw_files(tmp_path / "yelp_dataset.tar")
    assert str(told.value).splitlines()[-1].strip() == f"tar -xf {tmp_path}/yelp_dataset.tar -C {tmp_path}"


def move_and_link(raw, disk, kind):
    """Moves what is of this kind to another disk, and leaves a link in its place, as `git annex` does."""
    disk.mkdir()
    paths = {
        "file": raw / "yelp_review.json",
        "folder of photos": raw / "photos",
        "photo": raw / "photos" / "pizzeria-0.jpg",
        "folder": raw / "yelp_dataset",
    }
    if kind == "folder":
        deeper(raw, review="yelp_dataset")
    paths[kind].rename(disk / "content")
    paths[kind].symlink_to(disk / "content")


@pytest.mark.parametrize("kind", ["file", "folder of photos", "photo", "folder"])
def test_links_to_another_disk_are_followed_where_they_are_allowed(tmp_path, raw, kind):
    before = plan(raw).splits
    move_and_link(raw, tmp_path / "disk", kind)
    corpus = plan_corpus(find_raw_files(raw, allow_links=True), config(), RULES)
    assert corpus.splits == before
    assert not any("leads outside" in reason for _, reason in corpus.ledger.dropped)


@pytest.mark.parametrize("kind", ["file", "folder of photos", "folder"])
def test_a_link_that_is_refused_names_the_flag(tmp_path, raw, kind):
    move_and_link(raw, tmp_path / "disk", kind)
    with pytest.raises(ValueError, match="lead.* outside the raw folder.*--allow_links follows it"):
        find_raw_files(raw)


def test_a_photo_behind_a_link_that_is_refused_names_the_flag(tmp_path, raw):
    move_and_link(raw, tmp_path / "disk", "photo")
    assert plan(raw).ledger.dropped["photos", "photo leads outside the raw folder; --allow_links follows it"] == 1


def test_allowed_links_are_no_threshold_of_the_corpus(tmp_path, raw):
    move_and_link(raw, tmp_path / "disk", "folder of photos")
    with pytest.raises(ValueError, match="--allow_links"):
        build(raw, tmp_path / "corpus")
    build(raw, tmp_path / "corpus", allow_links=True)
    card = (tmp_path / "corpus" / "README.md").read_text()
    assert "allow_links" not in card and "This build has them." in card


def test_a_linked_gz_is_unpacked_by_the_links_name(tmp_path):
    raw = hand_written().write(tmp_path / "raw", gz=True)
    (raw / "yelp_review.json.gz").rename(tmp_path / "blob")
    (raw / "yelp_review.json.gz").symlink_to(tmp_path / "blob")
    assert profiles(plan_corpus(find_raw_files(raw, allow_links=True), config(), RULES)) == PROFILES
