"""The arguments of train.py: one flat dataclass, filled from a YAML recipe and the command line.

What imports torch is imported by the checks of the values: --help does without.
"""

import dataclasses
import os
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from typing import Literal

from cli.flags import check_choice, check_given, check_least, flag
from cli.logs import LOG_LEVELS
from files.unreadable_photos import ON_BAD_PHOTO
from publishing.hub_upload import HUB_STRATEGIES

# Those of transformers' schedules that need no number of their own.
LR_SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    "inverse_sqrt",
)
# Flags of a new model; a checkpoint has its own.
TOWERS, SHAPES = ("text_model", "vision_model", "vocab_size"), ("fusion", "vision_feature")
# Flags whose default is the system's -> what of a `System` it is.
OF_SYSTEM = {"text_model": "text_model", "vision_model": "vision_model", "paradigm": "own_paradigm"}
# Flags that systems have which read several views of a user; None in those of others.
OF_VIEWS = ("combination", "view_reviews")
# Of the test split: without photos and captions, with those of another user, with forged profiles.
CONDITIONS = ("text_only", "unpaired", "forged", "often_forged")
# Flags that say where things are and how they are done, not what is computed: a resumed run may have others.
OUTSIDE_THE_RUN = (
    *("dataset", "dataset_revision", "dataset_name", "language", "publish_example", "output_dir"),
    *("overwrite_output_dir", "num_workers", "photo_cache", "check_photos", "on_bad_photo"),
    *("report_to", "log_steps", "log_level", "dry_run", "do_train", "test_split", "seeds", "trust_remote_code"),
    *("resume_from_checkpoint", "save_steps", "checkpoints_total_limit", "max_skipped_steps"),
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_strategy", "save_predictions"),
)


@dataclass
class JointTrainingArguments:
    """Every flag of train.py. The defaults are the paper's (section 6.1) where it names a value.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    dataset: str = flag("", "corpus: a folder or Hub name that load_dataset takes")
    dataset_config: str | None = flag(None, "configuration of the corpus: default, full, ...")
    dataset_revision: str | None = flag(None, "branch, tag or commit of a corpus of the Hub; default: main")
    dataset_name: str | None = flag(None, "what the model card calls the corpus; default: its Hub or folder name")
    language: str = flag("en", "code of the reviews' language, for the model card")
    publish_example: bool = flag(False, "show a test user's reviews and profile in the model card")
    output_dir: str = flag("", "where the trained model, its card and its figures go")
    overwrite_output_dir: bool = flag(False, "replace an output_dir that is not empty")
    dry_run: bool = flag(False, "check all data, take a few steps, tell time and memory of the run, and write nothing")
    resume_from_checkpoint: str | None = flag(
        None, "auto: go on from the newest checkpoint of output_dir, if any; or one of them, newer ones are removed"
    )
    save_steps: int | None = flag(
        None, "a checkpoint after so many steps and at each epoch's end; without, on SIGTERM and SIGINT alone"
    )
    checkpoints_total_limit: int | None = flag(None, "keep so many checkpoints; the best and the newest always stay")
    report_to: list[str] = flag(
        ["none"], "trackers of Accelerate's: tensorboard, trackio, wandb, ...; all: those installed; or none"
    )
    log_steps: int | None = flag(None, "tell losses and pace after so many steps; default: about every 10 seconds")
    log_level: str = flag("info", "debug, info, warning or error: the least that is told of the run and by libraries")
    push_to_hub: bool = flag(False, "push output_dir to the Hub")
    hub_model_id: str | None = flag(None, "user/name or name on the Hub; default: the name of output_dir")
    hub_private_repo: bool | None = flag(None, "of a repository that is created; default: as its namespace has it")
    hub_strategy: str = flag(
        "every_save",
        "every_save: push after each epoch and checkpoint, and at the end; checkpoint: and the checkpoint with it, so"
        " that a download of the repository can be resumed; end: at the end alone",
    )

    system: str = flag("mmprofile", "which of baselines/table.py is trained: mmprofile, or one of the paper's others")
    model: str | None = flag(None, "a checkpoint of the system to go on with, instead of new towers")
    model_revision: str | None = flag(None, "branch, tag or commit of a --model of the Hub; default: main")
    trust_remote_code: bool = flag(False, "run the code that came with --model, instead of this checkout's")
    text_model: str | None = flag(
        None,
        "T5, mT5 or umT5 checkpoint, or what the system is made of, by Hub name or folder, or 'tiny'; default:"
        " google/flan-t5-base, or the system's",
    )
    vision_model: str | None = flag(
        None,
        "ViT, DINOv2, SigLIP, ... checkpoint, likewise; default: google/vit-base-patch16-224, or the system's, if it"
        " has a vision tower of its own",
    )
    vocab_size: int = flag(4000, "of the tokenizer that the tiny preset trains on the corpus")
    fusion: str = flag("gated", "gated (Eq. 6-8) or concat (Eq. 3)")
    vision_feature: str = flag("cls", "cls or patches")

    paradigm: str | None = flag(
        None, "multimodal, unimodal or combined (section 5); default: combined, or the system's"
    )
    objectives: list[str] = flag(
        ["fusion", "text", "mask_image", "mask_profile"], "which, of configuration_mmprofile.py's table"
    )
    objective_weights: list[float] = flag([], "of the objectives, in the order given; default: equal")
    objective_schedule: str = flag(
        "all", "all objectives on each batch, or sampled: one, drawn by its weight, for the same expected loss"
    )
    final_objective_weights: list[float] = flag(
        [],
        "of the last epoch, where the schedule is sampled: those of the epochs before lie evenly between; default:"
        " the same in all",
    )
    mask_probability: float = flag(0.5, "that mask_image masks a pixel or a caption's word")
    profile_mask_probability: float = flag(0.5, "that mask_profile masks an attribute")
    num_reviews: int = flag(3, "reviews of a user, drawn anew each epoch (Figure 5)")
    num_images: int = flag(1, "photos of a review, drawn anew each epoch (Figure 5)")
    combination: str | None = flag(
        None,
        "how the views of a user's history are read together: product, mean of their log-probabilities; mixture, of"
        " their probabilities; or states, in training too: the decoder attends to all of num_reviews reviews, encoded"
        " view by view. Default: that of --model, or product",
    )
    view_reviews: int | None = flag(
        None, "reviews of a view of a user's history; default: that of --model, or num_reviews, with states 1"
    )
    photos_from: str = flag(
        "self",
        "self, nobody or stranger: whose photos and captions stand with a user's reviews, in training and evaluation"
        " (Figure 6)",
    )
    photo_share: float = flag(
        1.0, "share of the photos, each with its caption, that are not withheld, in training and evaluation (Figure 6)"
    )
    max_text_tokens: int = flag(
        600,
        "longest input text; of a longer one captions keep a quarter, reviews the rest, or what the others leave",
    )
    forged_lines: float = flag(
        0.3, "share of the users into whose texts another user's profile is written, to be ignored; the paper: 0"
    )

    batch_size: int = flag(4, "users a step and process")
    gradient_accumulation_steps: int | None = flag(None, "batches a step; default: as the launcher says, or 1")
    auto_batch_size: bool = flag(
        False, "halve batch_size and double gradient_accumulation_steps until the largest batch fits in memory"
    )
    group_by_length: bool = flag(False, "users with texts of like length in a step, for less padding")
    num_epochs: int = flag(10, "passes over the training split")
    max_steps: int | None = flag(None, "end after so many steps, whatever num_epochs says")
    eval_steps: int | None = flag(None, "evaluate after so many steps too, not at the end of an epoch alone")
    early_stopping_patience: int | None = flag(
        None, "end when so many evaluations in a row have brought no better average Macro-F1"
    )
    max_skipped_steps: int = flag(
        20, "end after so many steps in a row whose gradient is not finite; such a step changes nothing"
    )
    learning_rate: float = flag(5e-5, "peak, of Adam")
    text_learning_rate: float | None = flag(None, "of the text tower and its decoder; default: learning_rate")
    vision_learning_rate: float | None = flag(None, "of the vision tower; default: learning_rate")
    fusion_learning_rate: float | None = flag(None, "of the fusion and what leads to it; default: learning_rate")
    weight_decay: float = flag(0.0, "decoupled (AdamW), of all but norms, biases and positions")
    adam_beta2: float = flag(0.999, "of Adam")
    lr_scheduler: str = flag("linear", f"a schedule of transformers: {', '.join(LR_SCHEDULERS)}")
    warmup_ratio: float = flag(0.0, "share of the steps in which the learning rate rises")
    max_grad_norm: float = flag(1.0, "gradients are clipped to this norm")
    ema_decay: float | None = flag(
        None, "evaluate and save the weights' exponential moving average over the steps, e.g. 0.999, for the weights"
    )
    lora_rank: int | None = flag(
        None, "train matrices of this rank beside the towers' frozen weights, and the fusion, by peft; default: all"
    )
    lora_alpha: float | None = flag(None, "what of them is added, times lora_rank; default: twice the rank")
    lora_targets: list[str] = flag(
        [], "names of the linear layers that get them, e.g. q v wi_0; default: those of both towers' attention"
    )
    gradient_checkpointing: bool = flag(False, "recompute activations, to save memory")
    mixed_precision: str | None = flag(None, "no, fp16 or bf16; default: as the launcher says, or no")
    matmul_precision: str = flag(
        "highest",
        "of 32-bit products: highest; high and medium: TF32 on a GPU; medium: oneDNN on a CPU with AVX-512, of 32 bits"
        " and faster in wide models, but of bf16 where the CPU has AMX",
    )
    fused_adamw: bool = flag(True, "update all weights in one kernel, on devices for which torch has it")
    compile: bool | None = flag(
        None, "torch.compile the layers, for batches of any size; default: as the launcher's dynamo_backend says"
    )
    freeze_vision: bool = flag(
        False,
        "leave the vision tower as it is; photo_cache, if given, keeps its states of unmasked photos too, where the"
        " system is mmprofile or made like it",
    )
    num_workers: int = flag(0, "processes that prepare batches")
    streaming: bool = flag(
        False, "read the training split's Parquet files, of the Hub, a bucket (s3://...) or a folder, while training"
    )
    shuffle_buffer: int = flag(1000, "with streaming: users held at once by each process that reads, and mixed")
    photo_cache: str | None = flag(None, "a folder for photos decoded and resized once; default: done in each epoch")
    check_photos: bool = flag(True, "read every photo before the first step, and name those that cannot be")
    on_bad_photo: str = flag(
        "stop", "where a photo cannot be read: stop, and name it; or skip: leave it out, with its caption"
    )
    seed: int = flag(0, "of weights, order, draws and masks")
    seeds: int | None = flag(
        None, "train so many runs, from seed on, into output_dir/seed-N, and seeds.json: means, deviations, intervals"
    )

    eval_batch_size: int = flag(32, "users a batch in evaluation, by whole histories views")
    eval_views: int | Literal["all"] = flag(
        "all", "the newest views that are read of a user's history once the model is trained, or all"
    )
    num_beams: int = flag(5, "of the beam search in evaluation")
    constrained_beams: bool = flag(False, "let it write profiles of the schema alone, by the schema's trie")
    max_train_users: int | None = flag(None, "use the first so many users of the training split")
    max_eval_users: int | None = flag(None, "use the first so many users of the other splits")
    max_test_users: int | None = flag(None, "of the split that is tested; default: max_eval_users")
    test_conditions: list[str] = flag(
        list(CONDITIONS), f"under which the test split is evaluated beside: {', '.join(CONDITIONS)}; none: under none"
    )
    save_predictions: bool = flag(
        False, "write every test user's profile, in each row of the results, to test_predictions.parquet; never pushed"
    )
    do_train: bool = flag(
        True,
        "false: train nothing; evaluate the model in output_dir, or a --model, of which output_dir gets a copy, and"
        " write results, figures and card again",
    )
    test_split: str = flag("test", "split that is evaluated where nothing is trained")

    def __post_init__(self):
        from baselines.table import find_system
        from mmprofile import FUSIONS, PARADIGMS, VISION_FEATURES
        from training.launcher import LAUNCHED, launched
        from training.objectives import SCHEDULES, check_probability, select_views
        from training.trackers import chosen_trackers

        check_given(self, "dataset", "output_dir", "test_split")
        for name in LAUNCHED:
            if getattr(self, name) is None:
                setattr(self, name, launched(name))
        system = find_system(self.system)
        for name, of_system in OF_SYSTEM.items():
            if getattr(self, name) is None:
                setattr(self, name, getattr(system, of_system))
        check_choice(self, "paradigm", PARADIGMS)
        self.views = select_views(system.check_paradigm(str(self.paradigm)), self.objectives)
        self._check_weights()
        check_probability("mask_probability", self.mask_probability)
        check_probability("profile_mask_probability", self.profile_mask_probability)
        check_probability("forged_lines", self.forged_lines)
        check_probability("photo_share", self.photo_share)
        check_choice(self, "photos_from", ["self", "nobody", "stranger"])
        self._check_conditions()
        if self.eval_views != "all":
            check_least(self, 1, "eval_views")
        check_least(self, 1, "num_reviews", "view_reviews")
        self._check_views(system)
        check_least(self, 1, "max_text_tokens", "batch_size")
        check_least(self, 1, "gradient_accumulation_steps")
        check_least(self, 1, "num_epochs", "eval_batch_size", "num_beams", "max_train_users", "max_eval_users")
        check_least(self, 1, "max_test_users")
        check_least(self, 1, "save_steps", "checkpoints_total_limit", "seeds", "log_steps", "max_steps", "eval_steps")
        check_least(self, 1, "early_stopping_patience", "max_skipped_steps")
        check_choice(self, "log_level", LOG_LEVELS)
        check_least(self, 0, "num_images", "num_workers", "seed", "weight_decay", "warmup_ratio")
        check_choice(self, "lr_scheduler", LR_SCHEDULERS)
        check_choice(self, "fusion", FUSIONS)
        check_choice(self, "vision_feature", VISION_FEATURES)
        check_choice(self, "on_bad_photo", ON_BAD_PHOTO)
        check_choice(self, "mixed_precision", ["no", "fp16", "bf16"])
        check_choice(self, "matmul_precision", ["highest", "high", "medium"])
        check_choice(self, "objective_schedule", list(SCHEDULES))
        check_choice(self, "hub_strategy", list(HUB_STRATEGIES))
        self.trackers = chosen_trackers(self.report_to)
        self._check_lora()
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is from 0 to below 1, got {self.ema_decay}")
        if not self.push_to_hub and (self.hub_model_id or self.hub_private_repo is not None):
            raise ValueError(f"hub_model_id={self.hub_model_id!r} is of use with --push_to_hub true only")
        if not (0 < self.learning_rate < inf and self.max_grad_norm > 0 and 0 <= self.adam_beta2 < 1):
            raise ValueError(
                "learning_rate and max_grad_norm are above 0 and adam_beta2 from 0 to below 1, got"
                f" {self.learning_rate}, {self.max_grad_norm} and {self.adam_beta2}"
            )
        rates = {
            "text_learning_rate": self.text_learning_rate,
            "vision_learning_rate": self.vision_learning_rate,
            "fusion_learning_rate": self.fusion_learning_rate,
        }
        if wrong := {name: rate for name, rate in rates.items() if rate is not None and not 0 < rate < inf}:
            raise ValueError(f"learning rates are above 0, got {wrong}")
        if self.freeze_vision and self.vision_learning_rate is not None:
            given = f"vision_learning_rate={self.vision_learning_rate}"
            raise ValueError(f"with freeze_vision the vision tower is not trained, got {given}")
        if not self.warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio is a share from 0 to 1, got {self.warmup_ratio}")
        changed = [name for name in SHAPES if getattr(self, name) != getattr(type(self), name)]
        if self.model and changed and self.do_train:
            raise ValueError(f"--model {self.model} has its own {', '.join(changed)}: leave these flags out")
        self._check_what_is_run()
        if self.model_revision and not self.model or self.trust_remote_code and not self.model and self.do_train:
            raise ValueError("--model_revision and --trust_remote_code are of use with --model only")
        if unfit := sorted(set(changed) - set(system.takes)):
            raise ValueError(f"{', '.join(unfit)} is no choice of {self.system}: leave these flags out")
        if system.vision_model is None and self.vision_model is not None:
            if self.vision_model != "tiny":  # of a recipe whose text_model says it all
                given = f"vision_model={self.vision_model!r}"
                raise ValueError(f"{self.system} has no vision tower of a checkpoint of its own, got {given}")
            self.vision_model = None
        if system.vision_model and (self.text_model == "tiny") != (self.vision_model == "tiny"):
            raise ValueError(
                f"the tiny preset makes both towers, got text_model={self.text_model!r},"
                f" vision_model={self.vision_model!r}"
            )

    def _check_views(self, system):
        from mmprofile import COMBINATIONS

        if self.combination is not None:
            check_choice(self, "combination", COMBINATIONS)
        given = {name: value for name in OF_VIEWS if (value := getattr(self, name)) is not None}
        if given and not system.reads_views:
            raise ValueError(f"{self.system} reads a user in one view, got {given}")
        if system.reads_views and not self.model:
            self.decide_views("product")

    def decide_views(self, combination: str, view_reviews: int | None = None) -> None:
        """Fills in what no flag says of views, by what a checkpoint was trained with."""
        self.combination = self.combination or combination
        self.view_reviews = self.view_reviews or view_reviews or self.views_default["view_reviews"]

    @property
    def views_default(self) -> dict:
        """Of a new model that reads views, of `combination` as it is."""
        return {"combination": "product", "view_reviews": 1 if self.combination == "states" else self.num_reviews}

    @property
    def trained_view(self) -> int | None:
        """Reviews of a row of a training batch; None where a row has all of a user's."""
        return self.view_reviews if self.combination == "states" else None

    @property
    def run_flags(self) -> dict:
        """The flags that say what is computed, by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in OUTSIDE_THE_RUN}

    @property
    def batches_a_step(self) -> int:
        """`gradient_accumulation_steps`, decided."""
        return self.gradient_accumulation_steps or 1

    @property
    def saves_checkpoints(self) -> bool:
        """Whether a checkpoint is saved at each epoch's end."""
        pushed = self.push_to_hub and self.hub_strategy == "checkpoint"
        return bool(self.save_steps or self.resume_from_checkpoint or pushed)

    @property
    def weights(self) -> dict[str, float] | None:
        """Objective -> weight, or None for equal ones."""
        return dict(zip(self.objectives, self.objective_weights, strict=True)) if self.objective_weights else None

    @property
    def drawn_by(self) -> list[dict[str, float]] | None:
        """Objective -> the share of batches that are of it, for each epoch; None: all are of all objectives."""
        if self.objective_schedule != "sampled":
            return None
        first = _shares(self.objective_weights or [1.0] * len(self.objectives))
        last = _shares(self.final_objective_weights) if self.final_objective_weights else first
        drawn_by = []
        for epoch in range(self.num_epochs):
            done = epoch / max(1, self.num_epochs - 1)
            shares = [(1 - done) * begun + done * ended for begun, ended in zip(first, last, strict=True)]
            drawn_by.append(dict(zip(self.objectives, shares, strict=True)))
        return drawn_by

    def _check_weights(self):
        for given in (self.objective_weights, self.final_objective_weights):
            if given and (len(given) != len(self.objectives) or not all(0 < weight < inf for weight in given)):
                raise ValueError(f"{self.objectives} need as many weights above 0, got {given}")
        if self.final_objective_weights and self.objective_schedule != "sampled":
            raise ValueError(
                "final_objective_weights are of batches that are drawn: they fit objective_schedule sampled,"
                f" got {self.objective_schedule!r}"
            )

    def _check_conditions(self):
        if self.test_conditions == ["none"]:
            self.test_conditions = []
        given = self.test_conditions
        if not set(given) <= set(CONDITIONS) or len(set(given)) < len(given):
            raise ValueError(f"test_conditions must be different ones of {list(CONDITIONS)}, or none, got {given}")

    @property
    def test_users(self) -> int | None:
        """Of the split that is tested, so many at most; None: all."""
        return self.max_eval_users if self.max_test_users is None else self.max_test_users

    def _check_lora(self):
        check_least(self, 1, "lora_rank")
        given = {"lora_alpha": self.lora_alpha, "lora_targets": self.lora_targets}
        given = {name: value for name, value in given.items() if value}
        if self.lora_rank is None and given:
            raise ValueError(f"{given} is of use with a --lora_rank only")
        if self.lora_alpha is not None and not 0 < self.lora_alpha < inf:
            raise ValueError(f"lora_alpha is above 0, got {self.lora_alpha}")
        if self.do_train and self.lora_rank is not None and find_spec("peft") is None:
            raise ValueError(f"lora_rank={self.lora_rank} needs peft: `pip install -r requirements-lora.txt`")

    def _check_what_is_run(self):
        if self.dry_run and (self.seeds or not self.do_train):
            raise ValueError("a dry run is of one training, without --seeds and --do_train false")
        if self.do_train and self.test_split != "test":
            raise ValueError(f"test_split={self.test_split!r} is of use with --do_train false only")
        if not self.do_train and self.resume_from_checkpoint:
            raise ValueError(f"--do_train false resumes nothing, got {self.resume_from_checkpoint!r}")
        if self.seeds and self.resume_from_checkpoint not in (None, "auto"):
            raise ValueError(
                f"of several seeds each goes on from a checkpoint of its own, by 'auto', got"
                f" {self.resume_from_checkpoint!r}"
            )
        if self.seeds and self.model and not self.do_train:
            raise ValueError(f"--model {self.model} is one model, got seeds={self.seeds} with --do_train false")


def unused_settings(arguments: JointTrainingArguments) -> list[str]:
    """Sentences on what the launcher says and a flag or a recipe decides otherwise; not on its defaults, which it says
    without being asked."""
    from training.launcher import LAUNCHED

    unused = []
    for name, (variable, default) in LAUNCHED.items():
        asked, decided = os.environ.get(variable, "").lower(), str(getattr(arguments, name)).lower()
        same = {"compile": {"no": "false", "inductor": "true"}.get(asked)}.get(name, asked)
        if asked and same not in (decided, str(default).lower()):
            unused.append(f"{variable}={asked} is not used, --{name} {decided} is")
    return unused


def _shares(weights: list[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]
