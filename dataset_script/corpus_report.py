"""The report of a build: what each step left and dropped, and the rows' figures beside the paper's Tables 1 and 6."""

from collections import Counter
from collections.abc import Iterable, Sequence

from .corpus import Corpus, UserRow
from .profile_rules import Rule

# The paper's Table 1, statistics of the dataset.
PAPER_STATISTICS = {
    "Users": 14_821,
    "Avg. reviews per user": 24.3,
    "Avg. words per review": 58.7,
    "Avg. images per user": 13.7,
}

# The paper's Table 6, how often each value occurs among 4,000 users, in the order of `yelp_schema.yaml`.
PAPER_DISTRIBUTION = {
    "stars": (1, 74, 645, 2_987, 293),
    "favorite_category": (199, 1_333, 1_883, 1_899, 1_631, 272, 499, 77, 99, 108),
    "preferred_meal": (1_620, 2_380),
    "budget_range": (2_113, 1_887),
    "discount_preference": (3_285, 715),
    "service_preference": (2_939, 1_061),
}


def render_report(config_name: str, corpus: Corpus) -> str:
    """The report as Markdown, for the terminal and for the dataset card."""
    rows = [row for rows in corpus.splits.values() for row in rows]
    splits = ", ".join(f"{len(rows):,} {name}" for name, rows in corpus.splits.items())
    return "\n\n".join(
        [
            f"### Configuration `{config_name}`",
            " ".join([f"Users: {splits}.", *_medians(corpus)]),
            _table(("What is left", "Count"), _integers(corpus.ledger.left.items())),
            _table(("Where", "Dropped because", "Count"), _drops(corpus)),
            _table(("Statistics of the rows", "Paper, Table 1", "This corpus"), _statistics(rows)),
            _table(("Attribute", "Value", "Paper, Table 6", "This corpus"), _distribution(corpus.rules, rows)),
        ]
    )


def _integers(counts: Iterable[tuple[str, int]]) -> Iterable[tuple[str, str]]:
    return ((name, f"{count:,}") for name, count in counts)


def _drops(corpus: Corpus) -> Iterable[tuple[str, ...]]:
    drops = sorted(corpus.ledger.dropped.items())
    return [(where, reason, f"{count:,}") for (where, reason), count in drops] or [("-", "nothing was dropped", "0")]


def _statistics(rows: Sequence[UserRow]) -> Iterable[tuple[str, ...]]:
    reviews = [review for row in rows for review in row.reviews]
    own = (
        f"{len(rows):,}",
        f"{len(reviews) / len(rows):.1f}",
        f"{sum(len(review.review.text.split()) for review in reviews) / len(reviews):.1f}",
        f"{sum(len(review.photos) for review in reviews) / len(rows):.1f}",
    )
    return ((name, f"{paper:,}", figure) for (name, paper), figure in zip(PAPER_STATISTICS.items(), own, strict=True))


def _medians(corpus: Corpus) -> Iterable[str]:
    rules = [rule for rule in corpus.rules if rule.key in corpus.medians]
    return (f"{r.name} is {r.yes} above {corpus.medians[r.key]:.3f}, the median of users' means." for r in rules)


def _distribution(rules: Sequence[Rule], rows: Sequence[UserRow]) -> Iterable[tuple[str, ...]]:
    for rule in rules:
        labels = [row.profile[rule.key] for row in rows]
        own = Counter(value for label in labels for value in (label if isinstance(label, list) else [label]))
        paper = PAPER_DISTRIBUTION.get(rule.key, ())
        for n, value in enumerate(rule.values):
            # Another platform's attribute has no counterpart in the paper.
            theirs = _share(paper[n], sum(paper)) if len(paper) == len(rule.values) else "-"
            yield rule.key, value, theirs, _share(own[value], own.total())


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f}%)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
