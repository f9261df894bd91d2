"""Whether a trained model's weights of photos and of views tell what its profiles rest on, on the split evaluated."""

from accelerate import Accelerator
from datasets import Dataset

from baselines.table import find_system
from scoring.deletion import HISTORY_USERS, USERS, deletion_test
from training.agreement import Agreement
from training.arguments import JointTrainingArguments
from training.data import checked_loader
from training.photo_cache import PhotoCache


def measure_faithfulness(
    model,
    processor,
    split: Dataset,
    arguments: JointTrainingArguments,
    accelerator: Accelerator,
    cache: PhotoCache | None,
    agreement: Agreement | None = None,
) -> dict:
    """What `all_results.json` tells of it, over all processes: `test_faithfulness`, see `deletion_test`; nothing where
    no weights are told, or no user has two photos or two views.

    `photos` are of the split's first users as the paper's recipe reads them, in one view; `history_photos` and `views`
    of some by their whole histories, where the system reads these.

    Args:
        as of `training.results.evaluate_saved`.
    """
    model = model.to(accelerator.device)

    def tested(number: int, **how) -> dict:
        users = split.select(range(min(number, len(split))))
        loader = checked_loader(users, processor, arguments, accelerator, agreement, cache=cache, **how)
        return deletion_test(model, loader, processor, accelerator, f"{arguments.test_split}, deletions")

    found = tested(USERS)
    if find_system(arguments.system).reads_views:
        by_history = tested(HISTORY_USERS, history=True)
        if "photos" in by_history:
            by_history["history_photos"] = by_history.pop("photos")
        found |= by_history
    return {"test_faithfulness": found} if found else {}
