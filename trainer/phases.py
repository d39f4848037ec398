"""The phases of a run, in order: set up, warm up, train, quantize, write, read back, score."""

import hashlib
import platform
import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.adapt import final_score, warm_up_scoring
from trainer.codec import payload_size
from trainer.compress import package_of, version_of
from trainer.config import Budget, Recipe, check_fits
from trainer.data import load_validation
from trainer.describe import describe
from trainer.environment import Environment
from trainer.evaluate import Score, Scorer
from trainer.events import Emit, Packed, Phase, PhaseEntered, Scored, TrainStopped, Validated
from trainer.fast import fast_paths_of
from trainer.loop import MICRO_BATCH_TOKENS, SETTLING_STEPS, WARMUP_STEPS, Trained, Trainer, train
from trainer.model import Gpt, new_model
from trainer.quantize import StoredTensor
from trainer.result import Measurement
from trainer.tokenizer import TokenBytes, load_token_bytes
from trainer.weight_file import read_weights, stored_weights, write_weights

WEIGHT_FILE = "weights.bin"
RESERVE_MARGIN = 1.3  # quantization kept back from a budget in seconds, over what it took before training


class Scores(NamedTuple):
    """Scores of the weights read back: non-overlapping, sliding, and adapted where the recipe adapts."""

    post_quant: Score
    sliding: Score
    adapted: Score | None

    @property
    def counted(self) -> Score:
        """The score of the run."""
        return self.adapted or self.sliding


class Session:
    """One rank's run of one recipe: what its phases share.

    Args:
        folder: where files are written.
        emit: where events go; nowhere on ranks other than 0.
        clock: seconds since any fixed moment.
    """

    def __init__(
        self,
        recipe: Recipe,
        budget: Budget,
        environment: Environment,
        folder: Path,
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self.recipe, self.budget, self.environment = recipe, budget, environment
        self.folder, self.emit, self.clock = folder, emit, clock
        self.start = clock()

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.emit(PhaseEntered(phase=phase, run_seconds=self.clock() - self.start))

    def setup(self) -> tuple[Gpt, Tensor, TokenBytes]:
        """The model at its start, the validation stream and the byte table, all checked before any training."""
        self.enter(Phase.SETUP)
        torch.manual_seed(self.environment.seed + self.environment.rank)  # of dropout and quantization noise
        check_fits(self.recipe, replace(self.budget, world_size=self.environment.world_size))
        package_of(self.recipe.compressor)
        token_bytes = load_token_bytes(self.environment.tokenizer_path, self.recipe.model.vocab_size)
        val_tokens = load_validation(
            self.environment.data_path, self.budget.eval_tokens, self.recipe.eval_seq_len, self.recipe.model.vocab_size
        )
        model = new_model(self.recipe.model, self.environment.compute_dtype, self.environment.seed)
        model.to(self.environment.device)
        model.take(fast_paths_of(self.environment.device, self.environment.compute_dtype))
        if self.environment.is_compiled:
            model.compile_parts()
        self.emit(describe(self.recipe, self.budget, self.environment, model, len(val_tokens) - 1))
        return model, val_tokens, token_bytes

    @contextmanager
    def turn(self, *, is_last: bool = False, is_warm_up: bool = False) -> Generator[None]:
        """Within it, this run alone uses the device, or warms up; the others compress and wait meanwhile."""
        if self.environment.turn_path is not None:
            self.enter(Phase.WAIT)
        with self.environment.turn(goes_first=is_last, is_warm_up=is_warm_up):
            yield

    def warm_up(self, trainer: Trainer, scorer: Scorer) -> None:
        """Compile all that the run will need, in little of the device's time: another run may be on it."""
        self.enter(Phase.WARMUP)
        if not self.environment.is_compiled:
            return
        micro_sequences = trainer.micro_sequences
        try:
            trainer.warm_up(WARMUP_STEPS)
            warm_up_scoring(scorer)
            if self.budget.train_seconds is not None:
                self.timed_quantize(trainer, MICRO_BATCH_TOKENS * self.environment.world_size)  # loads its kernels
        except torch.OutOfMemoryError:
            if self.environment.turn_path is None:
                raise
        if self.environment.turn_path is not None:
            # Memory that lacked was another run's: what it kept from being done is done when it has left.
            trainer.micro_sequences = micro_sequences
            trainer.release_memory()

    def settle(self, trainer: Trainer) -> float:
        """The last untimed steps, with all the memory that the run will need.

        Memory that lacks may be that of a run that warms up: then they are done again while none does.

        Returns:
            Seconds of the budget to keep back for quantization.
        """
        if self.environment.turn_path is None:
            return self.rehearse(trainer)
        self.enter(Phase.WARMUP)
        micro_sequences = trainer.micro_sequences
        with suppress(torch.OutOfMemoryError):
            seconds = self.rehearse(trainer)
            if trainer.micro_sequences == micro_sequences:
                return seconds
        trainer.micro_sequences = micro_sequences
        trainer.release_memory()
        with self.environment.turn(is_warm_up=True):
            return self.rehearse(trainer)

    def rehearse(self, trainer: Trainer) -> float:
        """Untimed steps and a quantization; returns the seconds to keep back for the timed one."""
        if self.environment.is_compiled:
            trainer.capture_passes()
            trainer.warm_up(SETTLING_STEPS)
        if self.budget.train_seconds is None:
            return 0.0
        _, seconds = self.timed_quantize(trainer)
        trainer.loader.reset()
        return self.environment.agree(RESERVE_MARGIN * seconds)

    def train(self, trainer: Trainer, reserve_seconds: float) -> Trained:
        """Train within the budget; the seconds returned are of training only."""
        self.enter(Phase.TRAIN)
        trained = train(trainer, self.budget, reserve_seconds, self.clock)
        peak, reserved = self.peak_memory()
        self.emit(
            TrainStopped(
                reason="token_budget" if self.budget.train_tokens else "wallclock_cap",
                step=trained.steps,
                train_seconds=trained.train_seconds,
                peak_memory_bytes=peak,
                reserved_memory_bytes=reserved,
            )
        )
        return trained

    def timed_quantize(self, trainer: Trainer, most_tokens: int | None = None) -> tuple[dict[str, StoredTensor], float]:
        """The stored form of the weights and the seconds it took, reading training text for Hessians included.

        Args:
            most_tokens: of training text to read, where not as many as the recipe asks for.
        """
        self.environment.synchronize()
        start = self.clock()
        stored = stored_weights(trainer, most_tokens)
        self.environment.synchronize()
        return stored, self.clock() - start

    def write(self, stored: dict[str, StoredTensor], code_path: Path) -> None:
        """Write the weight file (rank 0)."""
        code_bytes = code_path.stat().st_size
        weight_bytes = write_weights(self.folder / WEIGHT_FILE, stored, self.recipe, code_bytes)
        payload_bytes = payload_size(stored, self.recipe.quant, self.recipe.model.num_layers)
        self.emit(
            Packed(label=self.label, weight_bytes=weight_bytes, code_bytes=code_bytes, payload_bytes=payload_bytes)
        )

    @property
    def label(self) -> str:
        """Bits and compressor, as in the challenge's log lines."""
        return f"int{self.recipe.quant.matrix_bits}+{self.recipe.compressor.value}"

    def peak_memory(self) -> tuple[int, int]:
        """Most device bytes allocated and reserved so far; the resident set on CPU."""
        if self.environment.device.type == "cuda":
            return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return resident, resident

    def scored(self, label: str, score: Score, stride: int, seconds: float) -> None:
        """Emit a score of the read-back weights."""
        self.emit(
            Scored(
                label=label,
                val_loss=score.val_loss,
                val_bpb=score.val_bpb,
                num_tokens=score.num_tokens,
                num_bytes=score.num_bytes,
                stride=stride,
                seconds=seconds,
            )
        )

    def validate(self, scorer: Scorer, steps: int, train_seconds: float) -> Score:
        """The score of the final, averaged weights before quantization."""
        score = scorer.non_overlapping()
        self.emit(
            Validated(
                step=steps,
                train_seconds=train_seconds,
                val_loss=score.val_loss,
                val_bpb=score.val_bpb,
            )
        )
        return score

    def evaluate(self, model: Gpt, scorer: Scorer) -> tuple[Scores, float]:
        """The scores of the weights read back from the file, and the seconds that the one that counts took.

        Where the recipe adapts, the sliding score is there to compare and takes no time of the evaluation.
        """
        self.enter(Phase.EVALUATE)
        start = self.clock()
        read_weights(self.folder / WEIGHT_FILE, model, self.recipe)
        post_quant = scorer.non_overlapping()
        label = self.label.replace("+", "_") + "_roundtrip"
        self.scored(label, post_quant, self.recipe.eval_seq_len, self.clock() - start)
        start_sliding = self.clock()
        sliding = scorer.sliding()
        sliding_seconds = self.clock() - start_sliding
        self.scored("sliding_window", sliding, self.recipe.evaluation.stride, sliding_seconds)
        if not self.recipe.evaluation.adapts:
            return Scores(post_quant, sliding, None), self.environment.agree(self.clock() - start)
        start_adapted = self.clock()
        adapted = final_score(scorer)
        self.scored("adapted", adapted, self.recipe.evaluation.stride, self.clock() - start_adapted)
        return Scores(post_quant, sliding, adapted), self.environment.agree(self.clock() - start - sliding_seconds)

    def measure(self, code_path: Path) -> Measurement:
        """All phases: train, quantize, write, read back, score.

        Raises:
            TrainerError: any of the trainer's own errors.
        """
        model, val_tokens, token_bytes = self.setup()
        scorer = Scorer(model, val_tokens, token_bytes, self.recipe, self.environment)
        trainer = Trainer(model, self.recipe, self.environment, self.emit)
        with self.turn(is_warm_up=True):  # two runs' memory fits the device, three runs' may not
            self.warm_up(trainer, scorer)
        with self.turn():
            trained = self.train(trainer, self.settle(trainer))
            self.enter(Phase.QUANTIZE)
            stored, quantize_seconds = self.timed_quantize(trainer)
            train_seconds = trained.train_seconds + self.environment.agree(quantize_seconds)
            pre_quant = self.validate(scorer, trained.steps, train_seconds)
        trainer.release_memory()
        if self.environment.is_main:
            self.write(stored, code_path)
        self.environment.barrier()
        with self.turn(is_last=True):
            scores, eval_seconds = self.evaluate(model, scorer)
        code, weights = code_path.read_bytes(), (self.folder / WEIGHT_FILE).read_bytes()
        return Measurement(
            val_bpb=scores.counted.val_bpb,
            val_loss=scores.counted.val_loss,
            sliding_val_bpb=scores.sliding.val_bpb,
            pre_quant_val_bpb=pre_quant.val_bpb,
            post_quant_val_bpb=scores.post_quant.val_bpb,
            artifact_bytes=len(code) + len(weights),
            code_bytes=len(code),
            weight_bytes=len(weights),
            code_sha256=hashlib.sha256(code).hexdigest(),
            weight_sha256=hashlib.sha256(weights).hexdigest(),
            num_parameters=model.num_parameters,
            steps=trained.steps,
            train_tokens=trained.train_tokens,
            train_loss=trained.train_loss,
            train_seconds=train_seconds,
            eval_seconds=eval_seconds,
            step_avg_ms=1000 * trained.train_seconds / trained.steps,
            peak_memory_bytes=self.peak_memory()[0],
            seed=self.environment.seed,
            world_size=self.environment.world_size,
            device=self.environment.device_name,
            torch_version=torch.__version__,
            python_version=platform.python_version(),
            compressor_version=version_of(self.recipe.compressor),
        )
