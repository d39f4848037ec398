"""What is about to run, as the challenge's log header."""

import hashlib
import json
import platform
from dataclasses import asdict

import torch

from trainer.config import Budget, Recipe
from trainer.data import list_shards
from trainer.environment import Environment
from trainer.events import RunDescribed
from trainer.model import Gpt


def describe(recipe: Recipe, budget: Budget, environment: Environment, model: Gpt, num_val_tokens: int) -> RunDescribed:
    """The facts of a run that are fixed before training."""
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
        f"fast_paths:{','.join(model.fast.named) or 'none'}",
        f"attention_mode:gqa num_heads:{recipe.model.num_heads} num_kv_heads:{recipe.model.num_kv_heads}",
        f"tie_embeddings:True embed_lr:{optim.embed_lr} matrix_lr:{optim.matrix_lr} scalar_lr:{optim.scalar_lr}",
        f"train_batch_tokens:{schedule.train_batch_tokens} train_seq_len:{schedule.train_seq_len} "
        f"max_wallclock_seconds:{budget.train_seconds} max_train_tokens:{budget.train_tokens}",
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
        budget=asdict(budget),
        lines=lines,
    )
