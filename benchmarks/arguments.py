"""The benchmarks' flags. Imports neither torch nor datasets, so that --help is there at once."""

from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from prediction.arguments import FLOATS


def _parser(description: str | None) -> ArgumentParser:
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)


def corpus_parser(description: str | None) -> ArgumentParser:
    """Of build_corpus.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the figures, which are added")
    parser.add_argument("--reviews", type=int, nargs="+", default=[700_000, 7_000_000], help="of each raw folder")
    parser.add_argument("--photos", type=int, default=100_000, help="of each raw folder")
    parser.add_argument("--photo_size", type=int, default=64, help="pixels a side")
    parser.add_argument("--engine", default="duckdb", help="that builds, as of the builder")
    parser.add_argument("--folder", help="where raw files and corpora are written; a temporary folder by default")
    return parser


def seeds_parser(description: str | None) -> ArgumentParser:
    """Of demo_seeds.py."""
    parser = _parser(description)
    parser.add_argument("--output", required=True, help="JSON file of the figures")
    parser.add_argument("--folder", default="outputs/seeds", help="where the trained models go")
    parser.add_argument("--dataset", default="outputs/corpus", help="the demo's corpus")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--name", default="default", help="what FILE calls runs with these flags")
    parser.add_argument("--flags", nargs=REMAINDER, default=[], help="of train.py, last of all")
    return parser


def systems_parser(description: str | None) -> ArgumentParser:
    """Of systems.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--folder", type=Path, default=Path("outputs/systems"), help="where the trained models go")
    parser.add_argument("--dataset", default="outputs/corpus", help="the demo's corpus")
    parser.add_argument("--systems", nargs="+", help="which are trained, if they are not yet; default: all")
    parser.add_argument("--timed_steps", type=int, default=60, help="of each system, that give its seconds; 0: none")
    parser.add_argument("--readme", type=Path, help="a Markdown file whose table is replaced")
    parser.add_argument("--flags", nargs=REMAINDER, default=[], help="of train.py, last of all")
    return parser


def inference_parser(description: str | None) -> ArgumentParser:
    """Of inference.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--model", help="a checkpoint's folder or Hub name; default: random weights")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub model and its code; default: main")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that came with --model")
    parser.add_argument("--size", choices=("base", "small", "tiny"), default="base", help="of the random weights")
    parser.add_argument("--dtype", choices=FLOATS, default="float32", help="of the weights, not of the handler's")
    parser.add_argument("--text_tokens", type=int, default=600, help="of a user; at most what --model reads")
    parser.add_argument("--photos", type=int, default=3, help="of a user")
    parser.add_argument("--batch_sizes", type=int, nargs="+", help="of the searches; default: 1 16, on a GPU 128 too")
    parser.add_argument("--repeats", type=int, default=5, help="of every search")
    parser.add_argument("--users", type=int, default=64, help="of predict.py")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="of the handler, at once")
    parser.add_argument("--requests", type=int, default=1, help="of each client")
    parser.add_argument("--only_peers", action="store_true", help="measure CTranslate2 beside, and nothing else")
    return parser


def histories_parser(description: str | None) -> ArgumentParser:
    """Of histories.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--model", help="a checkpoint's folder; default: random weights")
    parser.add_argument("--size", choices=("base", "small", "tiny"), default="base", help="of the random weights")
    parser.add_argument("--text_tokens", type=int, default=600, help="of a view")
    parser.add_argument("--views", type=int, default=8, help="of a user")
    parser.add_argument("--users", type=int, default=2, help="of a batch")
    parser.add_argument("--repeats", type=int, default=3, help="of every method")
    return parser


def history_seeds_parser(description: str | None) -> ArgumentParser:
    """Of history_seeds.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--models", nargs="+", required=True, help="folders of trained models, a seed each")
    parser.add_argument("--dataset", required=True, help="of the users that are profiled")
    parser.add_argument("--split", default="test", help="of the dataset")
    parser.add_argument("--folder", type=Path, default=Path("outputs/history_seeds"), help="for the predictions")
    return parser


def update_parser(description: str | None) -> ArgumentParser:
    """Of update.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--size", choices=("base", "small", "tiny"), default="tiny", help="of the random weights")
    parser.add_argument("--text_tokens", type=int, default=600, help="that the model reads at most")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--changed", type=int, default=10, help="of the users")
    parser.add_argument("--reviews", type=int, default=8, help="of a user, each with a photo")
    parser.add_argument("--words", type=int, default=60, help="of a review")
    parser.add_argument("--batch_size", type=int, default=32, help="of predict.py")
    return parser


def search_parser(description: str | None) -> ArgumentParser:
    """Of search.py."""
    parser = _parser(description)
    parts = parser.add_subparsers(dest="part", required=True)
    rules, size = parts.add_parser("rules"), parts.add_parser("size")
    for part in (rules, size):
        part.add_argument("--output", type=Path, required=True, help="JSON file of the figures")
    rules.add_argument("--model", help="a checkpoint's folder; default: random weights with a trained head")
    rules.add_argument("--dataset", default="outputs/corpus", help="of the checkpoint's users")
    rules.add_argument("--split", default="test", help="of the dataset")
    rules.add_argument("--users", type=int, default=32, help="a batch of them, the first of the split")
    rules.add_argument("--profiles", type=int, default=64, help="the tokens of so many are the bound")
    rules.add_argument("--repeats", type=int, default=1)
    size.add_argument("--values", type=int, default=200)
    size.add_argument("--choose", type=int, default=3)
    size.add_argument("--calls", type=int, default=1000)
    return parser


def streaming_parser(description: str | None) -> ArgumentParser:
    """Of streaming.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--reviews", type=int, default=4, help="of a user, each with a photo")
    parser.add_argument("--buffer", type=int, default=1000, help="--shuffle_buffer of train.py")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--turn", type=int, default=50, help="batches of one style before the other has its turn")
    parser.add_argument("--turns", type=int, default=15, help="of each style, before the streamed one goes on alone")
    return parser


def step_parser(description: str | None) -> ArgumentParser:
    """Of train_step.py; what has no default here has one that depends on the device."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--layers", type=int, default=12, help="of each tower, of base width")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4, 8, 16, 32, 64], help="tried on a GPU")
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, help="that prepare batches; default: on a GPU up to 8, else 0")
    parser.add_argument(
        "--matmul_precision",
        choices=["highest", "high", "medium"],
        help="of 32-bit products, as of train.py; default: on a GPU high, else medium",
    )
    parser.add_argument("--flags", nargs="*", help="of train.py, to compare; default: all that can be on the device")
    return parser
