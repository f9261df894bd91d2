"""The report of a build: what each step left and dropped, and the rows' figures beside the paper's Tables 1 and 6."""

from collections.abc import Iterable, Mapping, Sequence

from .corpus import Corpus
from .corpus_rows import Tally
from .profile_rules import Rule

# The paper's Table 1, statistics of the dataset.
REVIEWS = "Avg. reviews per user"
PAPER_STATISTICS = {
    "Users": 14_821,
    REVIEWS: 24.3,
    "Avg. words per review": 58.7,
    "Avg. images per user": 13.7,
}

# The paper's Table 6, how often each value occurs among 4,000 users.
PAPER_DISTRIBUTION = {
    "stars": {"1": 1, "2": 74, "3": 645, "4": 2_987, "5": 293},
    "favorite_category": {
        "Automotive": 199,
        "Shopping": 1_333,
        "Event Planning & Services": 1_883,
        "Pizza": 1_899,
        "Coffee & Tea": 1_631,
        "Active Life": 272,
        "Beauty & Spas": 499,
        "Local Services": 77,
        "Health & Medical": 99,
        "Home Services": 108,
    },
    "preferred_meal": {"Lunch": 1_620, "Dinner": 2_380},
    "budget_range": {"Low": 2_113, "High": 1_887},
    "discount_preference": {"True": 3_285, "False": 715},
    "service_preference": {"True": 2_939, "False": 1_061},
}


def render_report(config_name: str, corpus: Corpus, figures: Mapping[str, str] | None = None) -> str:
    """The report as Markdown, for the terminal and for the dataset card; `figures` are what each shows, by path."""
    splits = ", ".join(f"{len(rows):,} {name}" for name, rows in corpus.splits.items())
    return "\n\n".join(
        [
            f"### Configuration `{config_name}`",
            " ".join([f"Users: {splits}.", *_cuts(corpus)]),
            *(f"![{shown}]({path})" for path, shown in (figures or {}).items()),
            *(["\n".join(f"- {note}" for note in corpus.ledger.notes)] if corpus.ledger.notes else []),
            _table(("What is left", "Count"), _integers(corpus.ledger.left.items())),
            _table(("Where", "Dropped because", "Count"), _drops(corpus)),
            _table(("Statistics of the rows", "Paper, Table 1", "This corpus"), _statistics(corpus.tally)),
            _table(("Attribute", "Value", "Paper, Table 6", "This corpus"), _distribution(corpus.rules, corpus.tally)),
        ]
    )


def _integers(counts: Iterable[tuple[str, int]]) -> Iterable[tuple[str, str]]:
    return ((name, f"{count:,}") for name, count in counts)


def _drops(corpus: Corpus) -> Iterable[tuple[str, ...]]:
    drops = sorted(corpus.ledger.dropped.items())
    return [(where, reason, f"{count:,}") for (where, reason), count in drops] or [("-", "nothing was dropped", "0")]


def _statistics(tally: Tally) -> Iterable[tuple[str, ...]]:
    own = (
        f"{tally.users:,}",
        f"{_sum(tally.reviews) / tally.users:.1f}",
        f"{_sum(tally.words) / tally.words.total():.1f}",
        f"{_sum(tally.photos) / tally.users:.1f}",
    )
    for (name, paper), figure in zip(PAPER_STATISTICS.items(), own, strict=True):
        if name == REVIEWS and tally.written:
            # The paper's number has no limit, so that these, and not the rows' own, are its likes.
            yield f"{name}: all of a fitting length", "-", f"{tally.written / tally.users:.1f}"
            yield f"{name}: of these with a listed photo", f"{paper:,}", f"{tally.with_photo / tally.users:.1f}"
            yield f"{name}: of these shown, `max_reviews` at most", "-", figure
        else:
            yield name, f"{paper:,}", figure


def _sum(counts: Mapping[int, int]) -> int:
    return sum(number * times for number, times in counts.items())


def _cuts(corpus: Corpus) -> Iterable[str]:
    for rule in corpus.rules:
        cuts = [f"{float(cut):.3f}" for cut in corpus.cuts.get(rule.key, ())]
        if rule.kind == "above_median":
            yield f"{rule.name} is {rule.yes} above {cuts[0]}, the median of users' means."
        elif cuts:
            above = ", ".join(f"{value} above {cut}" for value, cut in zip(rule.values[1:], cuts, strict=True))
            yield f"{rule.name} is {above}, quantiles of users' means, and {rule.values[0]} elsewhere."


def paper_counts(rule: Rule) -> Mapping[str, int] | None:
    """The paper's counts of an attribute; None where its values are not the paper's, as on another platform."""
    counts = PAPER_DISTRIBUTION.get(rule.key, {})
    return counts if set(counts) == set(rule.values) else None


def _distribution(rules: Sequence[Rule], tally: Tally) -> Iterable[tuple[str, ...]]:
    for rule in rules:
        own, paper = tally.values[rule.key], paper_counts(rule)
        for value in rule.values:
            theirs = _share(paper[value], sum(paper.values())) if paper else "-"
            yield rule.key, value, theirs, _share(own[value], own.total())


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f}%)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
