"""What a training step costs: the objectives shared against one by one, a drawn one against fusion, data and flags.

    python -m benchmarks.train_step --output benchmarks/results/train_step_cpu.json --layers 4 --batch_size 1
    python -m benchmarks.train_step --output benchmarks/results/train_step_gpu.json

Flan-T5-base's and ViT-base's widths from random weights, the paper's 600 tokens and 3 photos. Times are medians of
rounds in which every variant has its turn, so that all see the same machine; ratios are what counts on a busy one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import step_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    step_parser(__doc__).parse_known_args()

import os
import platform
import tempfile
import time
from typing import Any

import torch

from benchmarks.machine import cpu_name, tell
from benchmarks.training_bench import Bench, Users, count_flops, medians, timed, to_device
from benchmarks.training_flags import applicable, compare_flags
from mmprofile import PAPER_OBJECTIVES
from training.joint_step import JointOutput
from training.photo_cache import PhotoCache

USERS, EPOCHS = 3000, 10  # of the paper's run


def compare_objectives(bench: Bench, rounds: int) -> dict:
    """Shared against one by one, and a drawn objective against fusion, in the multimodal paradigm.

    One by one, each objective has its forward and backward pass, and the gradients add up to those of the shared step;
    summed, there is one backward pass from the sum of the losses, as in a plain training loop.
    """
    batch = bench.batch("multimodal", bench.options.batch_size)
    alone = [bench.joint("multimodal", [name]) for name in PAPER_OBJECTIVES]

    def summed(batch: dict) -> JointOutput:
        outputs = [joint(batch) for joint in alone]
        loss: Any = sum(output.loss for output in outputs)
        return JointOutput(loss, {})

    variants = {"shared": bench.step(bench.joint("multimodal"), batch)}
    variants |= {name: bench.step(joint, batch) for name, joint in zip(PAPER_OBJECTIVES, alone, strict=True)}
    variants |= {"one_by_one": bench.steps_in_turn(alone, batch), "summed": bench.step(summed, batch)}
    seconds = medians(variants, rounds, bench.device)
    sampled = sum(seconds[name] for name in PAPER_OBJECTIVES) / len(PAPER_OBJECTIVES)
    gigaflops = {name: count_flops(work) / 1e9 / bench.options.batch_size for name, work in variants.items()}
    return {
        "seconds": seconds | {"sampled": sampled},
        "gigaflops_a_user": gigaflops,
        "shared_over_one_by_one": seconds["shared"] / seconds["one_by_one"],
        "shared_over_summed": seconds["shared"] / seconds["summed"],
        "sampled_over_fusion": sampled / seconds["fusion"],
    }


def measure_data(bench: Bench, steps: int, batch_size: int) -> dict:
    """Waiting for batches as train.py's loop does, and the pipeline by itself: with --photo_cache and without."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = PhotoCache(folder, bench.users.files, bench.processor)
        cached = Users(bench.schema, bench.options.tokens, bench.options.photos, cache)
        for suffix, users in (("", cached), ("_without_photo_cache", bench.users)):
            found = measure_waiting(bench, users, steps, batch_size)
            results |= {f"{name}{suffix}": value for name, value in found.items()}
    return results


def measure_waiting(bench: Bench, users: Users, steps: int, batch_size: int) -> dict:
    options = bench.options
    steps += 4 * options.workers  # beyond the batches that lie ready when the clock starts
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(users, range((steps + 1) * batch_size)),
        batch_size,
        collate_fn=bench.collator("combined"),
        num_workers=options.workers,
        pin_memory=bench.device.type == "cuda",
    )
    joint, batches, waited = bench.joint("combined"), iter(loader), 0.0
    bench.step(joint, to_device(next(batches), bench.device))()
    started = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = to_device(next(batches), bench.device)
        waited += time.perf_counter() - asked
        timed(bench.step(joint, batch), bench.device)
    whole = time.perf_counter() - started
    alone = time.perf_counter()
    photos = sum(int(batch["image_mask"].sum()) for batch in loader)
    return {
        "data_wait_share": waited / whole,
        "photos_per_second_of_the_pipeline": photos / (time.perf_counter() - alone),
        "photos_per_second_of_the_steps": steps * batch_size * options.photos / (whole - waited),
    }


def matmul_flops(device: torch.device, size: int = 8192) -> float:
    """FLOP/s of a bf16 matrix product."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = medians({"product": lambda: one @ other}, 20, device)["product"]
    return 2 * size**3 / seconds


def measure_gpu(bench: Bench, rounds: int) -> dict:
    """Utilisation, memory and the paper's run, with the optimizer, at the batch size that serves most users."""
    peak = matmul_flops(bench.device)
    joint = bench.joint("combined")
    optimizer = torch.optim.AdamW(joint.parameters(), lr=1e-5, fused=True)
    tried = {}
    for size in bench.options.batch_sizes:
        batch = bench.batch("combined", size)
        torch.cuda.reset_peak_memory_stats(bench.device)

        def work(batch=batch) -> None:
            with torch.autocast("cuda", torch.bfloat16):
                loss = joint(batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(joint.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        try:
            seconds = medians({"step": work}, rounds, bench.device)["step"]
        except torch.OutOfMemoryError:
            joint.zero_grad()
            torch.cuda.empty_cache()
            break
        memory = torch.cuda.max_memory_allocated(bench.device) / 2**30
        flops = count_flops(work)
        rate = size / seconds
        tried[size] = {"users_per_second": rate, "mfu": flops / seconds / peak, "peak_memory_gib": memory}
    if not tried:
        raise ValueError(f"not even {bench.options.batch_sizes[0]} users fit in memory: choose other --batch_sizes")
    best = max(tried, key=lambda size: tried[size]["users_per_second"])
    return {
        "matmul_tflops": peak / 1e12,
        "by_batch_size": tried,
        "best_batch_size": best,
        **tried[best],
        "paper_run_minutes": USERS * EPOCHS / tried[best]["users_per_second"] / 60,
    }


def main(argv: list[str] | None = None) -> dict:
    parser = step_parser(__doc__)
    options = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu, flags = device.type == "cuda", applicable(device)
    if options.workers is None:
        options.workers = min(8, os.cpu_count() or 1) if on_gpu else 0
    options.matmul_precision = options.matmul_precision or ("high" if on_gpu else "medium")
    options.flags = flags if options.flags is None else options.flags
    if unknown := set(options.flags) - set(flags):
        parser.error(f"--flags can be {', '.join(flags)} on this device, got {', '.join(sorted(unknown))}")
    torch.backends.cuda.enable_cudnn_sdp(False)  # as train.py
    if options.matmul_precision == "highest":  # nothing to compare it with
        options.flags = [name for name in options.flags if name != "matmul_precision"]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision(options.matmul_precision)
    bench = Bench(options, device)
    results = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "options": {name: value for name, value in vars(options).items() if name != "output"},
        "layers": f"{options.layers} of base size's 12, of its width",
        **compare_objectives(bench, options.rounds),
    }
    if device.type == "cuda":
        results |= measure_gpu(bench, options.rounds)
    results |= measure_data(bench, options.rounds, results.get("best_batch_size", options.batch_size))
    results["flags"] = compare_flags(bench, options.flags, options.rounds)
    tell(results, options.output)
    return results


if __name__ == "__main__":
    main()
