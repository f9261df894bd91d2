"""What each rule of the search's heuristic is worth, and what a large schema costs a search.

    python benchmarks/search.py rules --output FILE
    python benchmarks/search.py rules --model outputs/quickstart --dataset outputs/corpus --output FILE
    python benchmarks/search.py size --values 200 --choose 3 --output FILE

`rules` predicts users of a split with all rules of `profile_heuristic_mmprofile.py`, and with each one left out:
decoder calls, tokens fed and milliseconds a user, how many are proved, and the mean log-probability of what is found,
which tells where the bound (--profiles) is near. Without --model it takes the tiny random weights of
benchmarks/inference.py, whose head is trained, and random users. `size` has random
log-probabilities in the decoder's place, and one attribute with so many values: a call's milliseconds, the prefixes
made and those that a call may still be asked, a quarter of the calls after the other. Seconds are this process' own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import search_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    search_parser(__doc__).parse_known_args()

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from math import inf
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.inference import encode, random_users, save_random_model
from files.checkpoint_code import load_processor
from files.output_files import write_json
from mmprofile import (
    Heuristic,
    MMProfileForConditionalGeneration,
    ProfileAttribute,
    ProfileSchema,
    ProfileSearch,
    SearchLimits,
    UserViews,
    branch_table,
    profile_trie,
    seen_by,
)
from predict import read_batches
from prediction.inputs import open_users
from systems.presets import tiny_processor

EXPANDED = 12  # prefixes a call
TEXT_TOKENS = 60  # of a random user
PROFILES_PER_SEARCH = 64  # the default bound


def without_guesses(heuristic: Heuristic, parent: np.ndarray, branch: np.ndarray, count: np.ndarray) -> np.ndarray:
    return heuristic.expected(parent) - np.log(count)


def without_expected(heuristic: Heuristic, numbers: np.ndarray) -> np.ndarray:
    return heuristic.prefixes.bound[numbers]


def without_promise(heuristic: Heuristic, numbers: np.ndarray, budget) -> np.ndarray:
    asked = numbers == budget.step[heuristic.prefixes.user[numbers]]
    return np.where(asked, inf, heuristic.expected(numbers))


def without_goal(heuristic: Heuristic, numbers: np.ndarray, promise: np.ndarray, budget) -> np.ndarray:
    user = heuristic.prefixes.user[numbers]
    return budget.found[user] & (heuristic.prefixes.bound[numbers] <= budget.goal[user])


BUDGET = Heuristic.budget


def without_way(heuristic: Heuristic, *known):
    budget = BUDGET(heuristic, *known)
    return budget._replace(step=np.full_like(budget.step, -1))


# What is left out -> the method that is replaced, and by what.
RULES: dict[str, tuple[str, Callable]] = {
    "guesses by the edge": ("guesses", without_guesses),
    "expected: the loss of other tokens": ("expected", without_expected),
    "promise: the loss behind": ("promise", without_promise),
    "goal before there is a profile": ("_needless", without_goal),
    "way to a first profile": ("budget", without_way),
}


def measure_rules(model, tokenizer, inputs: dict, repeats: int, profiles: int) -> dict[str, dict]:
    """Figures a user with all rules, without each, and with other numbers of prefixes a call; the bound is the tokens
    of so many profiles."""
    cases: dict[str, tuple[tuple[str, Callable] | None, dict]] = {"all rules": (None, {})}
    # Near bounds can end a search without a way before it has a profile.
    rules = {name: rule for name, rule in RULES.items() if rule[0] != "budget" or profiles >= PROFILES_PER_SEARCH}
    cases |= {f"without {name}": (rule, {}) for name, rule in rules.items()}
    cases |= {f"{number} prefixes a call": (None, {"expand_per_call": number}) for number in (4, 48)}
    with torch.no_grad():
        encoded = model.encode(**inputs)
    bound = profiles * profile_trie(model.config.profile_schema, tokenizer).longest
    options, figures = {"tokenizer": tokenizer, "encoder_outputs": encoded, "max_decoder_tokens": bound}, {}
    proved: list[dict[int, str]] = []
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    model.generate_profiles(**options)  # warms up
    for _ in range(repeats):
        for name, (rule, changed) in cases.items():
            with ExitStack() as replaced:
                if rule is not None:
                    replaced.enter_context(patch.object(Heuristic, *rule))
                started = time.process_time()
                found = model.generate_profiles(**options, **changed)
                seconds[name].append(time.process_time() - started)
            proved.append({user: one.text for user, one in enumerate(found) if one.exact})
            figures[name] = {
                "calls": statistics.fmean(one.decoder_calls for one in found),
                "tokens": statistics.fmean(one.decoder_tokens for one in found),
                "milliseconds": 1000 * statistics.median(seconds[name]) / len(found),
                "exact_share": statistics.fmean(one.exact for one in found),
                "log_probability": statistics.fmean(one.log_probability for one in found),
            }
    for one, other in pairwise(proved):
        assert all(one[user] == other[user] for user in one.keys() & other.keys()), "a rule changed what is proved"
    return figures


def load(options: argparse.Namespace, work: Path) -> tuple:
    """The model, its tokenizer, and the inputs of users: of a split the first, or random ones."""
    rng = random.Random(0)
    if options.model is None:
        save_random_model(work, "tiny", TEXT_TOKENS, rng, torch.device("cpu"))
    # This checkout's class: the rules that are left out are those of its code.
    model = MMProfileForConditionalGeneration.from_pretrained(options.model or work).eval()
    processor, _ = load_processor(options.model or str(work), None)
    if options.model is None:
        inputs = encode(processor, seen_by(model.config), random_users(options.users, TEXT_TOKENS, 1, rng))
    else:
        inputs = read_inputs(model, processor, options)
    return model, processor.tokenizer, inputs


def read_inputs(model, processor, options: argparse.Namespace) -> dict:
    users = open_users(options.dataset, None, options.split, model.config.profile_schema, None, None)
    rows = list(range(min(options.users, len(users))))
    (batch,) = read_batches(users, [rows], processor, seen_by(model.config), num_workers=0)
    return batch.joined_inputs(processor.tokenizer.pad_token_id, model.device)


def measure_size(values: int, choose: int, calls: int) -> dict:
    """A search of one user over a schema with one attribute of so many values."""
    names = tuple(f"value{number}" for number in range(values))
    schema = ProfileSchema((ProfileAttribute("Likes", names, choose), ProfileAttribute("Budget", ("Low", "High"))))
    tokenizer = tiny_processor(["a user"], schema, image_size=16).tokenizer
    rng = np.random.default_rng(0)
    limits = SearchLimits(5, EXPANDED, EXPANDED, calls, inf, 0.0)
    search = ProfileSearch(branch_table(profile_trie(schema, tokenizer), 0), limits, UserViews([1]))
    seconds, made, asked = [], [], []
    while True:
        started = time.process_time()
        call = search.select()
        if call is None:
            break
        rest, following = rng.exponential(0.1, len(call.prefixes)), rng.uniform(4, 6, len(call.children))
        search.update(call, -rest[:, None], -following[:, None])  # as of a model that is sure of nothing
        seconds.append(time.process_time() - started)
        made.append(search.prefixes.size)
        asked.append(len(search.frontier))
    started = time.process_time()
    search.predictions()
    quarters = [part.tolist() for part in np.array_split(np.arange(len(seconds)), 4)]
    return {
        "profiles": search.trie.size,
        "seconds": sum(seconds),
        "seconds_of_the_answer": time.process_time() - started,
        "milliseconds_a_call": [1000 * statistics.fmean(seconds[at] for at in part) for part in quarters],
        "prefixes_made": [made[part[-1]] for part in quarters],
        "prefixes_that_may_be_asked": [asked[part[-1]] for part in quarters],
    }


def main(argv: list[str] | None = None) -> dict:
    """Measures, writes the JSON file and returns what is in it."""
    options = search_parser(__doc__).parse_args(argv)
    if options.part == "size":
        results = measure_size(options.values, options.choose, options.calls)
    else:
        with tempfile.TemporaryDirectory() as work:
            model, tokenizer, inputs = load(options, Path(work))
        results = measure_rules(model, tokenizer, inputs, options.repeats, options.profiles)
    write_json(options.output, results)
    for name, figures in results.items():
        print(f"{name:50} {figures}")
    return results


if __name__ == "__main__":
    main()
