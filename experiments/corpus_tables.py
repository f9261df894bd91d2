"""Tables 1 and 6, which the corpus builder writes into each corpus's card, kept beside the results."""

from itertools import takewhile
from pathlib import Path

from huggingface_hub import DatasetCard

from files.output_files import replacing

CORPUS_TABLES = "corpus.md"  # of a scale's results
# The first cell of each table in the card -> its title on the page.
TABLES = {
    "Statistics of the rows": "Table 1: Statistics of the corpus",
    "Attribute": "Table 6: Values of the attributes",
}


def corpus_tables(card: str) -> str:
    """The tables of a card, the first of each, as Markdown; empty if it has none."""
    lines, parts = card.splitlines(), []
    for cell, title in TABLES.items():
        begins = next((n for n, line in enumerate(lines) if line.startswith(f"| {cell} | ") and "Paper" in line), None)
        if begins is not None:
            table = takewhile(lambda line: line.startswith("|"), lines[begins:])
            parts.append("\n".join([f"## {title}", "", *table, ""]))
    return "\n".join(parts)


def keep_corpus_tables(dataset: str, folder: Path) -> None:
    """Keeps a corpus's tables beside the results, if it has a card with them.

    Args:
        dataset: a folder, or a name on the Hub.
        folder: of the scale's results.
    """
    local = Path(dataset) / "README.md"
    if Path(dataset).is_dir() and not local.is_file():  # whose name may be a dataset's of the Hub, too
        return
    try:
        text = corpus_tables(DatasetCard.load(local if local.is_file() else dataset).content)
    except (OSError, ValueError):  # no card there, or a name that is no dataset's of the Hub
        return
    if text:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / CORPUS_TABLES) as temporary:
            temporary.write_text(text, encoding="utf-8")
