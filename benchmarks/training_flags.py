"""What each flag of train.py that is to make a step cheaper brings: the step with it over the step without.

Every comparison is of medians in turns on the same machine; where a flag is of no use on the device, there is none.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch._dynamo.utils import counters
from torch.utils.data._utils.pin_memory import pin_memory as pin

from benchmarks.training_bench import Bench, Users, medians, timed, to_device
from training.model import compile_layers
from training.user_order import group_by_length

WORDS_A_REVIEW = 58.7  # of the paper's corpus (Table 1)


def compare_flags(bench: Bench, names: list[str], rounds: int) -> dict[str, dict]:
    """Flag -> seconds `on` and `off`, `on_over_off`, and what else there is to say of it."""
    results = {}
    for name in names:
        found = COMPARISONS[name](bench, rounds)
        results[name] = {"on_over_off": found["on"] / found["off"]} | found
        print(f"{name}: {results[name]}", flush=True)
    return results


def applicable(device: torch.device) -> list[str]:
    """The flags that can be compared on a device."""
    return [name for name in COMPARISONS if device.type == "cuda" or name != "pin_memory"]


def compare_sdpa(bench: Bench, rounds: int) -> dict:
    """torch's fused attention in both towers, which is what they have without any flag, beside plain products."""
    work = bench.step(bench.joint("combined"), bench.batch("combined", bench.options.batch_size))

    def switch(name: str) -> None:
        for tower in (bench.model.text_model, bench.model.vision_model):
            tower.set_attn_implementation("sdpa" if name == "on" else "eager")

    seconds = medians({"off": work, "on": work}, rounds, bench.device, switch)
    switch("on")
    return seconds


def compare_bf16(bench: Bench, rounds: int) -> dict:
    joint, batch = bench.joint("combined"), bench.batch("combined", bench.options.batch_size)
    steps = {"on": bench.step(joint, batch, bf16=True), "off": bench.step(joint, batch, bf16=False)}
    return medians(steps, rounds, bench.device)


def compare_matmul_precision(bench: Bench, rounds: int) -> dict:
    """What the bench is run with beside the default, without bf16."""
    work = bench.step(bench.joint("combined"), bench.batch("combined", bench.options.batch_size), bf16=False)

    def switch(name: str) -> None:
        torch.set_float32_matmul_precision(bench.options.matmul_precision if name == "on" else "highest")

    seconds = medians({"on": work, "off": work}, rounds, bench.device, switch)
    switch("on")
    return seconds


def compare_fused_adamw(bench: Bench, rounds: int) -> dict:
    """The optimizer's step alone, and as a share of a whole step."""
    joint = bench.joint("combined")
    backward = bench.step(joint, bench.batch("combined", bench.options.batch_size))
    for parameter in joint.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizers = {
        name: torch.optim.AdamW(joint.parameters(), lr=1e-6, fused=fused)
        for name, fused in (("on", True), ("off", None))
    }
    seconds = medians({name: optimizer.step for name, optimizer in optimizers.items()}, rounds, bench.device)
    bench.model.zero_grad(set_to_none=True)
    return seconds | {"share_of_a_step": seconds["off"] / (seconds["off"] + timed(backward, bench.device))}


def compare_compile(bench: Bench, rounds: int) -> dict:
    """With the seconds of compiling and how often batches of other sizes had a layer compiled anew."""
    model, size = copy.deepcopy(bench.model), bench.options.batch_size
    compile_layers(model)
    batch = bench.batch("combined", size)
    on, off = bench.step(bench.joint("combined", of=model), batch), bench.step(bench.joint("combined"), batch)
    first = timed(on, bench.device)
    seconds = medians({"on": on, "off": off}, rounds, bench.device)
    others = [(size + 1, 3), (size + 2, 2), (size, 4), (size + 1, 5)]
    graphs = []
    for users, share in others:
        shorter = Users(bench.schema, bench.options.tokens // share, bench.options.photos)
        bench.step(bench.joint("combined", of=model), bench.batch("combined", users, shorter))()
        graphs.append(counters["stats"]["unique_graphs"])
    return seconds | {"seconds_to_compile": first - seconds["on"], "recompilations": graphs[-1] - graphs[0]}


def compare_gradient_checkpointing(bench: Bench, rounds: int) -> dict:
    """On a GPU with the peak memory, for which it is there."""
    work = bench.step(bench.joint("combined"), bench.batch("combined", bench.options.batch_size))
    peaks = {}

    def switch(name: str) -> None:
        model = bench.model
        model.activation_checkpointing_enable() if name == "on" else model.activation_checkpointing_disable()

    results: dict[str, Any] = {**medians({"on": work, "off": work}, rounds, bench.device, switch)}
    if bench.device.type == "cuda":
        for name in ("on", "off"):
            switch(name)
            torch.cuda.reset_peak_memory_stats(bench.device)
            timed(work, bench.device)
            peaks[name] = torch.cuda.max_memory_allocated(bench.device) / 2**30
        results["peak_memory_gib"] = peaks
    switch("off")
    return results


def compare_freeze_vision(bench: Bench, rounds: int) -> dict:
    """With the states of unmasked photos kept: masked ones go through the tower, forward."""
    joint, size, tower = bench.joint("combined"), bench.options.batch_size, bench.model.vision_model
    kept = Users(bench.schema, bench.options.tokens, bench.options.photos, states=tower.config.hidden_size)
    steps = {
        "on": bench.step(joint, bench.batch("combined", size, kept)),
        "off": bench.step(joint, bench.batch("combined", size)),
    }
    seconds = medians(steps, rounds, bench.device, lambda name: tower.requires_grad_(name == "off"))
    tower.requires_grad_(True)
    return seconds


def compare_group_by_length(bench: Bench, rounds: int) -> dict:
    """Steps of users with reviews about as long as the paper's, and the padding in the texts of 3,000 of them."""
    rng, size = np.random.default_rng(0), bench.options.batch_size
    # The mean of each user's three reviews.
    words = rng.lognormal(np.log(WORDS_A_REVIEW) - 0.32, 0.8, (3000, 3)).clip(5, 300).mean(axis=1).astype(int)
    random = rng.permutation(len(words))
    orders = {"on": group_by_length(random, words, size, rng), "off": random}
    users = Users(bench.schema, words, bench.options.photos)
    joint, steps, padding = bench.joint("combined"), {}, {}
    for name, order in orders.items():
        batches = [bench.batch("combined", order[start : start + size], users) for start in range(0, 8 * size, size)]
        works = [bench.step(joint, batch) for batch in batches]
        steps[name] = lambda works=works: [work() for work in works]
        longest = words[order[: len(words) // size * size]].reshape(-1, size).max(axis=1)
        padding[name] = 1 - words[order[: len(longest) * size]].sum() / (longest.sum() * size)
    return medians(steps, rounds, bench.device) | {"padding": padding}


def compare_pin_memory(bench: Bench, rounds: int) -> dict:
    """The copy of a batch to the device alone."""
    batch = to_device(bench.batch("combined", bench.options.batch_size), torch.device("cpu"))
    pinned = pin(batch)
    copies = {"on": lambda: to_device(pinned, bench.device), "off": lambda: to_device(batch, bench.device)}
    return medians(copies, rounds, bench.device)


COMPARISONS = {
    "sdpa": compare_sdpa,
    "bf16": compare_bf16,
    "matmul_precision": compare_matmul_precision,
    "fused_adamw": compare_fused_adamw,
    "compile": compare_compile,
    "gradient_checkpointing": compare_gradient_checkpointing,
    "freeze_vision": compare_freeze_vision,
    "group_by_length": compare_group_by_length,
    "pin_memory": compare_pin_memory,
}
