"""The dataset card of a build: the README.md beside this file, filled in with what the build knows.

The metadata tell `load_dataset` and the Hub's viewer which files are which split of which configuration, and what is
in them; the datasheet keeps the paragraphs that fit the raw files' source.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, DatasetCardData

from .corpus import Corpus
from .corpus_options import options as corpus_options
from .corpus_report import render_report
from .literals import SCALE
from .profile_rules import Rule
from .provenance import Source

CARD = "README.md"
SYNTHETIC = "synthetic"  # the tag by which a push knows such a corpus
# Where the template takes in the build's own texts; paragraphs between `if` and `end` stay where the source is theirs.
REPORT_MARK = "<!-- the build puts its report here -->"
FIELDS_MARK = "<!-- the build puts the profile's fields here -->"
RULES_MARK = "<!-- the build puts the rules here -->"
OPTIONS_MARK = "<!-- the build puts its options here -->"
DIFFERENCES_MARK = "<!-- the build puts what differs from the paper here -->"
FILES_MARK = "<!-- the build puts the raw files here -->"
ARGUMENTS_MARK = "<!-- the build puts the arguments here -->"
PARAGRAPHS = re.compile(r"<!-- if ([\w ]+) -->\n(.*?)<!-- end -->\n", re.DOTALL)

# By source: the metadata that differ. The template's own are of a build from Yelp's files.
METADATA = {
    "yelp": {},
    "platform": {
        "pretty_name": "Multimodal User Profiles",
        "language": None,
        "license_name": "terms-of-the-raw-files",
        "license_link": None,
    },
    "synthetic": {
        "pretty_name": "Multimodal User Profiles, Synthetic",
        "license": "apache-2.0",
        "license_name": None,
        "license_link": None,
    },
}


def write_card(
    path: Path,
    corpora: Mapping[str, Corpus],
    infos: Mapping[str, datasets.DatasetInfo],
    figures: Mapping[str, Mapping[str, str]],
    options: Mapping[str, object],
    source: Source,
) -> None:
    """Writes the card.

    Args:
        path: of the card.
        corpora: by configuration.
        infos: by configuration; features and sizes.
        figures: by configuration, what each figure shows, by its path beside the card.
        options: of the build, that are not the defaults.
        source: of the raw files; its kind is a key of `METADATA`.
    """
    card = DatasetCard(Path(__file__).with_name(CARD).read_text(encoding="utf-8"))
    metadata = metadata_of(card)
    for name, corpus in corpora.items():
        files = [{"split": split, "path": f"data/{name}/{split}*.parquet"} for split in corpus.splits]
        MetadataConfigs({name: {"data_files": files}}).to_dataset_card_data(metadata)
        DatasetInfosDict({name: infos[name]}).to_dataset_card_data(metadata)
    heading = metadata["pretty_name"]
    for key, value in METADATA[source.kind].items():
        metadata[key] = value  # None leaves it out
    if source.kind == SYNTHETIC:
        metadata["tags"] = [*metadata["tags"], SYNTHETIC]
    metadata["size_categories"] = [_size_category(max(_users(corpus) for corpus in corpora.values()))]

    rules = next(iter(corpora.values())).rules
    flags = "".join(f" --{name} {value}" for name, value in (source.arguments or {}).items())
    chosen = ", ".join(f"`{name}` {value}" for name, value in options.items())
    reports = {name: render_report(name, corpus, figures[name]) for name, corpus in corpora.items()}
    text = PARAGRAPHS.sub(lambda found: found[2] if source.kind in found[1].split() else "", card.text)
    text = text.replace(f"# {heading}", f"# {metadata['pretty_name']}", 1)
    text = text.replace(FIELDS_MARK, "\n".join(_fields(rules))).replace(RULES_MARK, "\n".join(map(_explain, rules)))
    text = text.replace(OPTIONS_MARK, f"Here {chosen}." if chosen else "This build has them.")
    text = text.replace(DIFFERENCES_MARK, _differences(options)).replace(FILES_MARK, _files(source, corpora))
    card.text = text.replace(ARGUMENTS_MARK, flags).replace(REPORT_MARK, _joined(reports))
    card.save(path)


def _joined(reports: Mapping[str, str]) -> str:
    """One behind the other; what the first one shows is not shown again."""
    (first, shown), *others = reports.items()
    known, joined = set(shown.split("\n\n")), [shown]
    for _, report in others:
        parts = report.split("\n\n")
        own = [part for part in parts if part not in known]
        joined += [*own, f"All else that `{first}` shows is the same here."] if len(own) < len(parts) else own
    return "\n\n".join(joined)


def metadata_of(card: DatasetCard) -> DatasetCardData:
    """The card's metadata, of which huggingface_hub declares no more than that they are some card's."""
    assert isinstance(card.data, DatasetCardData)
    return card.data


def _users(corpus: Corpus) -> int:
    return sum(map(len, corpus.splits.values()))


def _size_category(rows: int) -> str:
    bounds = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for bound, name in bounds.items() if rows < bound), "n>1M")


def _differences(options: Mapping[str, object]) -> str:
    """Each threshold beside the paper's."""
    rows = [("Threshold", "Paper", "Here"), ("---", "---", "---")]
    for option in corpus_options():
        paper, here = option.metadata["paper"], options.get(option.name, option.default)
        if paper is not None and paper != here:
            rows.append((f"`{option.name}`", str(paper), str(here)))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _files(source: Source, corpora: Mapping[str, Corpus]) -> str:
    corpus = next(iter(corpora.values()))
    rows = [("Raw file", "Lines", "Bytes", "SHA-256"), ("---", "---", "---", "---")]
    rows += [
        (file.name, f"{corpus.lines[role]:,}", f"{file.size:,}", f"`{file.sha256}`")
        for role, file in source.files.items()
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    first, last = (date.partition(" ")[0] for date in corpus.dates)
    return f"The reviews that labels come from were written from {first} to {last}.\n\n{table}"


def _fields(rules: Sequence[Rule]) -> Iterable[str]:
    for rule in rules:
        kind = "class label" if rule.count == 1 else f"list of {rule.count} class labels"
        yield f"| `profile.{rule.key}` | {kind} | {', '.join(rule.values)} |"


def _explain(rule: Rule) -> str:
    named = " or ".join(f"`{path}`" for path in rule.of)
    if rule.kind == "mean_rating":
        said = "the mean rating, a half rounded up."
        if rule.grid.step != SCALE:
            said = "the value nearest to the mean rating; halfway between two, the higher."
    elif rule.kind == "top":
        many = "one" if rule.count == 1 else rule.count
        said = f"the {many} that most businesses have in {named}; ties go to the first in the order above."
    elif rule.kind == "mode":
        said = f"the one that most businesses have for {named}; ties go to the first in the order above."
        if rule.unknown:
            said = f"{said[:-1]}, and one that tells nothing has {rule.unknown}."
    elif rule.kind == "mean_cut":
        bounds = ", ".join(f"{bound:g}" for bound in rule.bounds) or "quantiles of all users' means"
        said = f"by the mean of {named}, from the lowest to the highest, cut at {bounds}; a mean at a cut is below it."
    elif rule.kind == "above_median":
        said = f"{rule.yes} where the mean of {named} is above the median of all users' means."
    elif rule.against:
        told = f"of the businesses that have exactly one of {named} and `{rule.against}`"
        said = f"{rule.yes} where over half {told} have {named}."
    elif rule.counts_unknown:
        said = f"{rule.yes} where over half of the businesses have {named}; one that tells nothing has not."
    else:
        said = f"{rule.yes} where over half of the businesses that tell have {named}."
    return f"   - **{rule.name}**: {said}"
