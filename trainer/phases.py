"""The phases of a run, in order: set up, warm up, train, quantize, write, read back, score."""

import hashlib
import json
import platform
import resource
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.codec import decode, encode, package_of, payload_of, version_of
from trainer.config import Budget, Recipe, check_fits
from trainer.data import list_shards, load_validation
from trainer.environment import Environment
from trainer.evaluate import Score, Scorer
from trainer.events import Emit, Packed, Phase, PhaseEntered, RunDescribed, Scored, TrainStopped, Validated
from trainer.loop import Trained, Trainer, train
from trainer.model import Gpt, new_model
from trainer.quantize import StoredTensor, dequantize, quantize
from trainer.result import Measurement
from trainer.tokenizer import TokenBytes, load_token_bytes

WEIGHT_FILE = "weights.bin"


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
        check_fits(self.recipe, replace(self.budget, world_size=self.environment.world_size))
        package_of(self.recipe.compressor)
        token_bytes = load_token_bytes(self.environment.tokenizer_path, self.recipe.model.vocab_size)
        val_tokens = load_validation(
            self.environment.data_path, self.budget.eval_tokens, self.recipe.eval_seq_len, self.recipe.model.vocab_size
        )
        model = new_model(self.recipe.model, self.environment.compute_dtype, self.environment.seed)
        model.to(self.environment.device)
        self.emit(describe(self, model, len(val_tokens) - 1))
        return model, val_tokens, token_bytes

    def train(self, model: Gpt) -> Trained:
        """Warm up, then train within the budget; the seconds returned include training only."""
        self.enter(Phase.WARMUP)
        trainer = Trainer(model, self.recipe, self.environment, self.emit)
        trainer.warm_up()
        reserve = self.reserve_seconds(model) if self.budget.train_seconds else 0.0
        self.enter(Phase.TRAIN)
        trained = train(trainer, self.budget, reserve, self.clock)
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

    def reserve_seconds(self, model: Gpt) -> float:
        """What to keep back from a budget in seconds for quantization, which is timed too: twice its measured cost."""
        self.timed_quantize(model)  # the first one loads kernels
        _, seconds = self.timed_quantize(model)
        return self.environment.agree(2 * seconds)

    def timed_quantize(self, model: Gpt) -> tuple[dict[str, StoredTensor], float]:
        """The stored form of the weights and the seconds it took."""
        self.environment.synchronize()
        start = self.clock()
        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        stored = quantize(weights, self.recipe.quant, self.recipe.model.num_layers, None)
        self.environment.synchronize()
        return stored, self.clock() - start

    def write(self, stored: dict[str, StoredTensor], code_path: Path) -> None:
        """Write the weight file (rank 0)."""
        data = encode(stored, self.recipe.quant, self.recipe.model.num_layers, self.recipe.compressor)
        (self.folder / WEIGHT_FILE).write_bytes(data)
        payload_bytes = len(payload_of(stored, self.recipe.quant, self.recipe.model.num_layers))
        code_bytes = code_path.stat().st_size
        self.emit(Packed(label=self.label, weight_bytes=len(data), code_bytes=code_bytes, payload_bytes=payload_bytes))

    def read_back(self, model: Gpt) -> None:
        """Replace the model's weights by those of the weight file.

        Raises:
            ArtifactError: the file is damaged.
        """
        parameters = dict(model.named_parameters())
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
        data = (self.folder / WEIGHT_FILE).read_bytes()
        quant, num_layers = self.recipe.quant, self.recipe.model.num_layers
        weights = dequantize(decode(data, shapes, quant, num_layers, self.recipe.compressor))
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])

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

    def validate(self, scorer: Scorer, trained: Trained) -> Score:
        """The score of the final, averaged weights before quantization."""
        score = scorer.non_overlapping()
        self.emit(
            Validated(
                step=trained.steps,
                train_seconds=trained.train_seconds,
                val_loss=score.val_loss,
                val_bpb=score.val_bpb,
            )
        )
        return score

    def evaluate(self, model: Gpt, scorer: Scorer) -> tuple[Score, Score, float]:
        """Non-overlapping and sliding score of the weights read back from the file, and the seconds it all took."""
        self.enter(Phase.EVALUATE)
        start = self.clock()
        self.read_back(model)
        post_quant = scorer.non_overlapping()
        label = self.label.replace("+", "_") + "_roundtrip"
        self.scored(label, post_quant, self.recipe.eval_seq_len, self.clock() - start)
        start_sliding = self.clock()
        sliding = scorer.sliding()
        self.scored("sliding_window", sliding, self.recipe.evaluation.stride, self.clock() - start_sliding)
        return post_quant, sliding, self.environment.agree(self.clock() - start)

    def measure(self, code_path: Path) -> Measurement:
        """All phases: train, quantize, write, read back, score.

        Raises:
            TrainerError: any of the trainer's own errors.
        """
        model, val_tokens, token_bytes = self.setup()
        scorer = Scorer(model, val_tokens, token_bytes, self.recipe, self.environment)
        trained = self.train(model)
        self.enter(Phase.QUANTIZE)
        stored, quantize_seconds = self.timed_quantize(model)
        trained = replace(trained, train_seconds=trained.train_seconds + self.environment.agree(quantize_seconds))
        pre_quant = self.validate(scorer, trained)
        if self.environment.is_main:
            self.write(stored, code_path)
        self.environment.barrier()
        post_quant, sliding, eval_seconds = self.evaluate(model, scorer)
        code, weights = code_path.read_bytes(), (self.folder / WEIGHT_FILE).read_bytes()
        return Measurement(
            val_bpb=sliding.val_bpb,
            val_loss=sliding.val_loss,
            pre_quant_val_bpb=pre_quant.val_bpb,
            post_quant_val_bpb=post_quant.val_bpb,
            artifact_bytes=len(code) + len(weights),
            code_bytes=len(code),
            weight_bytes=len(weights),
            code_sha256=hashlib.sha256(code).hexdigest(),
            weight_sha256=hashlib.sha256(weights).hexdigest(),
            num_parameters=model.num_parameters,
            steps=trained.steps,
            train_tokens=trained.train_tokens,
            train_loss=trained.train_loss,
            train_seconds=trained.train_seconds,
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


def describe(session: Session, model: Gpt, num_val_tokens: int) -> RunDescribed:
    """What is about to run, as the challenge's log header."""
    recipe, environment = session.recipe, session.environment
    optim, schedule = recipe.optim, recipe.schedule
    num_shards = len(list_shards(environment.data_path, "train"))
    lines = [
        f"run_id:{environment.run_id}",
        f"python:{platform.python_version()} pytorch:{torch.__version__} device:{environment.device_name}",
        f"val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path={environment.tokenizer_path.name}",
        f"tokenizer_sha256:{hashlib.sha256(environment.tokenizer_path.read_bytes()).hexdigest()}",
        f"train_loader:dataset:{environment.data_path.name} train_shards:{num_shards}",
        f"val_loader:shards pattern=fineweb_val_*.bin tokens:{num_val_tokens}",
        f"model_params:{model.num_parameters}",
        f"world_size:{environment.world_size} compute_dtype:{environment.compute_dtype}",
        f"attention_mode:gqa num_heads:{recipe.model.num_heads} num_kv_heads:{recipe.model.num_kv_heads}",
        f"tie_embeddings:True embed_lr:{optim.embed_lr} matrix_lr:{optim.matrix_lr} scalar_lr:{optim.scalar_lr}",
        f"train_batch_tokens:{schedule.train_batch_tokens} train_seq_len:{schedule.train_seq_len} "
        f"max_wallclock_seconds:{session.budget.train_seconds} max_train_tokens:{session.budget.train_tokens}",
        f"seed:{environment.seed}",
        f"recipe:{json.dumps(asdict(recipe))}",
    ]
    return RunDescribed(
        run_id=environment.run_id,
        seed=environment.seed,
        world_size=environment.world_size,
        num_parameters=model.num_parameters,
        device=environment.device_name,
        torch_version=torch.__version__,
        recipe=asdict(recipe),
        budget=asdict(session.budget),
        lines=lines,
    )
