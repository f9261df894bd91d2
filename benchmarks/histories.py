"""What reading a whole history costs beside one view: users a second, and seconds of the encoder and of the search.

    python benchmarks/histories.py --output histories.json
    python benchmarks/histories.py --model outputs/quickstart --output histories.json

A user has eight views of three reviews with a photo each; "one" is the newest view alone. Measured by turns on the
same users: the views' product, as `predict.py` answers, and states that are joined for one decoder; the product in
bfloat16 and in int8 too.
Without --model the weights are those of `benchmarks/inference.py`, of base size, and texts have --text_tokens tokens a
view. The ratios are medians over the turns, whole history over one view in 32 bits.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import histories_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    histories_parser(__doc__).parse_known_args()

import json
import random
import statistics
import tempfile
from functools import partial
from typing import Any

import torch

from benchmarks.inference import encode, machine, random_users, save_random_model, timed, versions
from files.checkpoint_code import load_model, load_processor
from mmprofile import seen_by
from prediction.linear import fast_linears

METHODS = {  # name -> views a user, how they are combined, and the weights, as of `load_model`
    "one": (1, "product", "float32"),
    "product": (None, "product", "float32"),
    "states": (None, "states", "float32"),
    "one in bfloat16": (1, "product", "bfloat16"),
    "product in bfloat16": (None, "product", "bfloat16"),
    "one in int8": (1, "product", "int8"),
    "product in int8": (None, "product", "int8"),
}


def measure(models: dict, processor, users: list[dict], views: int, repeats: int) -> dict:
    """Seconds a user of each method, of each turn: `encoder` and `search`."""
    found: dict[str, list] = {name: [] for name in METHODS}
    sees = seen_by(models["float32"].config)
    inputs = encode(processor, sees, users)
    newest = {name: tensor[::views] for name, tensor in inputs.items()}
    number = len(users) // views
    for _ in range(repeats):
        for name, (some, combination, weights) in METHODS.items():
            rows, model = newest if some else inputs, models[weights]
            rows = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in rows.items()}
            asked: dict[str, Any] = {"views": [some or views] * number, "combination": combination}
            asked |= {"tokenizer": processor.tokenizer, "num_return_profiles": 1}
            with torch.no_grad(), fast_linears(model.device):
                encoder, encoded = timed(partial(model.encode, **rows), model.device)
                search, _ = timed(partial(model.generate_profiles, encoder_outputs=encoded, **asked), model.device)
            found[name].append({"encoder": encoder / number, "search": search / number})
    return found


def main(argv: list[str] | None = None) -> dict:
    options = histories_parser(__doc__).parse_args(argv)
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        name = options.model or folder
        if options.model is None:
            save_random_model(Path(folder), options.size, options.text_tokens, rng, torch.device("cpu"))
        processor, _ = load_processor(name, None)
        models = {weights: load_model(name, None, dtype=weights).eval() for weights in ("float32", "bfloat16", "int8")}
    views = random_users(options.users * options.views, options.text_tokens, 3, rng)
    seconds = measure(models, processor, views, options.views, options.repeats)
    totals = {n: statistics.median(t["encoder"] + t["search"] for t in turns) for n, turns in seconds.items()}
    results = {
        "users_per_second": {name: 1 / total for name, total in totals.items()},
        "over_one_view": {name: totals["one"] / total for name, total in totals.items()},
        "seconds": {
            name: {part: statistics.median(turn[part] for turn in turns) for part in ("encoder", "search")}
            for name, turns in seconds.items()
        },
        "users": options.users,
        "views": options.views,
        "text_tokens": options.text_tokens,
        "size": options.model or options.size,
        "machine": machine(),
        "versions": versions(),
    }
    for method, ratio in results["over_one_view"].items():
        parts = results["seconds"][method]
        print(
            f"{method}: {ratio:.3f} of one view's users a second; {parts['encoder']:.2f} s + {parts['search']:.2f} s"
        )
    Path(options.output).write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
