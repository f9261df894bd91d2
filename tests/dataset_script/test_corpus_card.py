"""The dataset card of a build: metadata, the datasheet of its source, its own rules, options and figures."""

import hashlib
import re
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

from dataset_script import corpus_card
from dataset_script.mmprofile_yelp import build
from dataset_script.synthesize import synthesize
from tests import ROOT
from tests.raw_corpus import hand_written

TEMPLATE = (Path(corpus_card.__file__).parent / "README.md").read_text(encoding="utf-8")
FILM_SCHEMA = ROOT / "tests" / "film_schema.yaml"
CHAPTERS = ["Motivation", "Composition", "Collection process", "Preprocessing"]
CHAPTERS += ["Uses", "Distribution", "Maintenance"]


def films(folder):
    """The hand-written corpus with another platform's evidence."""
    raw = hand_written()
    for number, business in enumerate(raw.businesses):
        business["genres"] = "Drama"
        business["attributes"] = {"minutes": str(90 + number), "group_discount": "True"}
    return raw.write(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cards")


@pytest.fixture(scope="module")
def cards(folder):
    synthesize(folder / "made", num_users=12, seed=3, num_businesses=40, image_size=16)
    build(hand_written().write(folder / "hand"), folder / "yelp", config=["default", "full"])
    build(films(folder / "films"), folder / "platform", schema=str(FILM_SCHEMA), min_reviews=29)
    build(folder / "made", folder / "synthetic", threads=1)
    return {source: DatasetCard.load(folder / source / "README.md") for source in corpus_card.METADATA}


@pytest.mark.parametrize("source", corpus_card.METADATA)
def test_a_card_is_a_datasheet_without_a_mark_of_the_template(cards, source):
    text = cards[source].text
    sheet = text.split("\n## Datasheet\n")[1].split("\n## ")[0]
    assert re.findall("^### (.*)$", sheet, re.MULTILINE) == CHAPTERS
    chapters = sheet.split("\n### ")[1:]
    assert chapters and all(len(chapter.split()) > 20 for chapter in chapters)
    assert "<!--" not in text and text.count("\n# ") == 1
    marks = [mark for name, mark in vars(corpus_card).items() if name.endswith("_MARK")]
    assert marks and all(TEMPLATE.count(mark) == 1 for mark in marks)


def test_a_build_from_yelp_is_under_yelps_terms_which_forbid_to_pass_it_on(cards):
    data, text = cards["yelp"].data, cards["yelp"].text
    assert (data.license, data["license_name"]) == ("other", "yelp-dataset-user-agreement")
    assert data["license_link"] == "https://www.yelp.com/dataset" and data.language == ["en"]
    assert "They forbid to redistribute the data" in text and "synthetic" not in data.tags
    assert data.pretty_name == "Multimodal User Profiles from Yelp" and f"# {data.pretty_name}\n" in text


def test_a_synthetic_build_says_so_and_how_its_raw_files_come_again(cards):
    data, text = cards["synthetic"].data, cards["synthetic"].text
    assert (data.license, data.get("license_name"), data.get("license_link")) == ("apache-2.0", None, None)
    assert "synthetic" in data.tags and "**This corpus is synthetic**" in text
    assert "`python -m dataset_script.synthesize --users 12 --seed 3 --businesses 40 --image_size 16`" in text
    assert "forbid" not in text and "# Multimodal User Profiles, Synthetic\n" in text


def test_another_platforms_build_is_not_called_yelps(cards):
    data, text = cards["platform"].data, cards["platform"].text
    assert (data.license, data["license_name"]) == ("other", "terms-of-the-raw-files")
    assert data.language is None and data.get("license_link") is None and "synthetic" not in data.tags
    assert "# Multimodal User Profiles\n" in text and "the raw files' terms" in text
    assert "Table 6)" not in text and "Preferred Meal" not in text


def test_a_card_tells_the_fields_and_rules_of_its_schema(cards):
    assert "| `profile.favorite_category` | list of 2 class labels | Automotive, Shopping," in cards["yelp"].text
    assert (
        "   - **Preferred Meal**: Dinner where over half of the businesses that have exactly one of"
        " `GoodForMeal.dinner` and `GoodForMeal.lunch` have `GoodForMeal.dinner`.\n"
    ) in cards["yelp"].text
    text = cards["platform"].text
    assert "| `profile.genre` | class label | Drama, Comedy, Horror |" in text
    assert "   - **Score**: the mean rating, a half rounded up.\n" in text
    assert "   - **Genre**: the one that most businesses have in `genres`;" in text
    assert "   - **Length**: Long where the mean of `minutes` is above the median of all users' means.\n" in text
    assert "Together where over half of the businesses that tell have `audience.family` or `group_discount`." in text


def test_a_card_tells_the_options_that_are_not_the_defaults(cards):
    assert "argument of the build. Here `min_reviews` 29, `schema` film_schema.yaml.\n" in cards["platform"].text
    for source in ("yelp", "synthetic"):
        assert "argument of the build. This build has them.\n" in cards[source].text


def test_a_card_tells_what_is_not_the_papers(cards):
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \| (.+) \|$", cards["yelp"].text.split("| Paper | Here |")[1], re.MULTILINE
    )
    assert rows == [
        ("min_words", "without a number", "5"),
        ("max_words", "without a number", "300"),
        ("max_reviews", "no such threshold", "24"),
        ("max_images_per_review", "no such threshold", "3"),
        ("min_photo_reviews", "no such threshold", "3"),
    ]
    assert "\n| `min_reviews` | 30 | 29 |\n" in cards["platform"].text


def test_a_card_tells_the_raw_files_lines_and_digests_and_the_first_and_last_day(folder, cards):
    for name, lines in (("business", 7), ("review", 361), ("photos", 9)):
        content = (folder / "hand" / f"yelp_{name}.json").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert content.count(b"\n") == lines
        assert f"\n| yelp_{name}.json | {lines} | {len(content):,} | `{digest}` |\n" in cards["yelp"].text
    assert "The reviews that labels come from were written from 2021-04-02 to 2021-05-01.\n" in cards["yelp"].text


@pytest.mark.parametrize("source", corpus_card.METADATA)
def test_a_card_has_links_curators_and_a_citation(cards, source):
    text = cards[source].text
    assert "\n- Corpus: curated by whoever built it" in text and "https://arxiv.org/abs/1803.09010" in text
    (citation,) = re.findall(r"```bibtex\n(.*?)```", text, re.DOTALL)
    assert (
        re.findall(r"@misc{([\w-]+),", citation)
        == ["multimodal-user-profiling", "yelp-open-dataset"][: 1 + (source == "yelp")]
    )


def test_the_metadata_tell_configurations_features_and_sizes(cards):
    data = cards["yelp"].data
    assert data.size_categories == ["n<1K"] and data.task_categories == ["image-text-to-text", "text-generation"]
    assert [config["config_name"] for config in data.configs] == ["default", "full"]
    assert [file["split"] for file in data.configs[0]["data_files"]] == ["train", "validation", "test"]
    infos = datasets.info.DatasetInfosDict.from_dataset_card_data(data)
    assert len(infos) == 2
    for info in infos.values():
        rows = {name: split.num_examples for name, split in info.splits.items()}
        assert rows == {"train": 6, "validation": 1, "test": 1}
        assert info.features["profile"]["budget_range"].names == ["Low", "High"]
        assert info.download_size > 0 and info.dataset_size > 0


def test_the_report_and_the_figures_stand_by_their_configuration(cards):
    text = cards["yelp"].text
    assert "| users | no evidence for preferred_meal | 1 |" in text
    default, full = text.split("### Configuration ")[1:]
    for name, part in {"default": default, "full": full}.items():
        shown = re.findall(r"!\[.+\]\((.*?)\)", part)
        assert shown == [f"figures/{name}-{what}.png" for what in ("attributes", "lengths", "photos")]


def test_no_table_of_a_configuration_is_repeated_for_another(cards):
    default, full = cards["yelp"].text.split("### Configuration ")[1:]
    shown = [part for part in default.split("\n\n") if part.startswith("| ")]
    assert len(shown) == 4 and not set(shown) & set(full.split("\n\n"))
    assert "All else that `default` shows is the same here." in full
