"""A recipe in words, for whoever reads a submission or a terminal."""

from collections.abc import Iterator
from typing import assert_never

from trainer.config import Recipe
from trainer.eval_config import EvalConfig
from trainer.model_config import (
    EmbedInit,
    GateForm,
    MatrixInit,
    MlpKind,
    ModelConfig,
    ParallelForm,
    ResidMixInit,
    SmearForm,
    XsaForm,
)
from trainer.store_config import ClipRule, Compressor, Layout, QuantConfig
from trainer.train_config import Loader, MuonForm, NewtonSchulz, OptimConfig, QatForm, ScheduleConfig


def technique_phrases(recipe: Recipe) -> list[str]:
    """What the recipe does, in the challenge's words; what is off goes without saying."""
    return [
        *shape_phrases(recipe.model),
        *part_phrases(recipe.model),
        *training_phrases(recipe),
        *storage_phrases(recipe),
        *scoring_phrases(recipe.evaluation),
    ]


def shape_phrases(model: ModelConfig) -> Iterator[str]:
    """Sizes of the model."""
    yield f"{model.num_layers} layers, width {model.model_dim}"
    yield f"{model.num_heads} heads with {model.num_kv_heads} key/value heads"
    yield f"{mlp_name(model.mlp)} MLP of {model.mlp_dim}"
    yield f"tied embedding of {model.vocab_size}"


def mlp_name(kind: MlpKind) -> str:
    """The activation."""
    match kind:
        case MlpKind.RELU2:
            return "relu^2"
        case MlpKind.LEAKY_RELU2:
            return "leaky relu^2"
        case MlpKind.SWIGLU:
            return "SwiGLU"
        case _:
            assert_never(kind)


def part_phrases(model: ModelConfig) -> Iterator[str]:
    """Switchable parts of the model."""
    if model.rope_dims is not None:
        yield f"rotary on {model.rope_dims} of {model.head_dim} channels"
    if model.rope_ntk_length is not None:
        yield f"NTK rotary base beyond {model.rope_ntk_length}"
    yield from _attention_phrases(model)
    yield from _token_phrases(model)
    yield from _order_phrases(model)
    if model.matrix_init is MatrixInit.ORTHOGONAL:
        yield "orthogonal initial matrices"
    if model.embed_init is not EmbedInit.NORMAL:
        yield f"{model.embed_init.value.replace('_', '-')} initial embedding"
    if model.resid_mix_init is ResidMixInit.PHASE_TRANSITION:
        yield "phase-transition residual mixing"
    if model.dropout:
        yield f"dropout {model.dropout:g}"


def last_phrase(count: int, model: ModelConfig) -> str:
    """So many layers from the end."""
    if count >= model.num_layers:
        return "all layers"
    return "the last layer" if count == 1 else f"the last {count} layers"


def _attention_phrases(model: ModelConfig) -> Iterator[str]:
    if model.xsa is not None:
        form = "" if model.xsa.form is XsaForm.PROJECTION else " (mean share)"
        yield f"XSA{form} in {last_phrase(model.xsa.last_layers, model)}"
    if model.gate is not None:
        scale = f" of scale {model.gate.scale:g}" if model.gate.form is GateForm.SPARSE else ""
        yield f"{model.gate.form.value} attention gates{scale}"
    if model.value_embed is not None:
        yield f"value embeddings of {model.value_embed.dim} in {last_phrase(model.value_embed.last_layers, model)}"


def _token_phrases(model: ModelConfig) -> Iterator[str]:
    if model.bigram is not None:
        yield f"bigram hash table of {model.bigram.buckets} x {model.bigram.dim}"
    if model.smear is not None:
        yield "SmearGate" if model.smear.form is SmearForm.CONVEX else "residual SmearGate"


def _order_phrases(model: ModelConfig) -> Iterator[str]:
    if model.norm_scaled_by_depth:
        yield "norms scaled by depth"
    if model.skip_gates:
        yield "gated U-Net skips"
    if model.loop is not None:
        loop = model.loop
        where = f"layers {loop.first_layer} to {loop.last_layer} passed {loop.passes} times"
        yield f"{where} from {loop.start_fraction:.0%} of the run on"
    if model.parallel is not None:
        form = "two-lane" if model.parallel.form is ParallelForm.TWO_LANE else "parallel"
        yield f"{form} blocks in {last_phrase(model.parallel.last_layers, model)}"


def training_phrases(recipe: Recipe) -> Iterator[str]:
    """Optimizer, schedule, data order, averaging."""
    yield from _optimizer_phrases(recipe.optim)
    yield from _schedule_phrases(recipe.schedule)
    if recipe.ema is not None:
        yield f"weights averaged (half-life {recipe.ema.half_life_fraction:.1%} of the run)"
    if recipe.swa is not None:
        yield f"checkpoints averaged from {recipe.swa.start_fraction:.1%} of the run on"
    if recipe.qat is not None:
        form = "rounded" if recipe.qat.form is QatForm.STRAIGHT_THROUGH else "noisy"
        yield f"{form} weights in training from {recipe.qat.start_fraction:.0%} of the run on"


def _optimizer_phrases(optim: OptimConfig) -> Iterator[str]:
    form = {MuonForm.PLAIN: "Muon", MuonForm.ROW_EQUALIZED: "row-equalized Muon", MuonForm.NORMUON: "NorMuon"}
    yield f"{form[optim.muon]} and Adam" + (
        f" (weight decay {optim.muon_weight_decay})" if optim.muon_weight_decay else ""
    )
    if optim.newton_schulz is NewtonSchulz.POLAR_EXPRESS:
        yield "Polar Express"
    if optim.grad_clip_norm is not None:
        yield f"gradients clipped at {optim.grad_clip_norm:g}"


def _schedule_phrases(schedule: ScheduleConfig) -> Iterator[str]:
    yield f"{schedule.train_batch_tokens:,} tokens a step in sequences of {schedule.train_seq_len}"
    if schedule.loader is not Loader.SEQUENTIAL:
        yield f"{schedule.loader.value.replace('_', '-')} order of the data"
    if schedule.document_mask:
        yield "documents apart in training"
    floor = f" to {schedule.lr_floor:g}" if schedule.lr_floor else ""
    yield f"warmdown{floor} over the last {schedule.warmdown_fraction:.1%}"


def storage_phrases(recipe: Recipe) -> Iterator[str]:
    """Quantization and compression."""
    quant = recipe.quant
    layout = "" if recipe.layout is Layout.PLAIN else f" of {recipe.layout.value} codes"
    embed = "fp16" if quant.embed_bits == 16 else f"int{quant.embed_bits}"
    mlp = "" if quant.mlp_bits in {None, quant.matrix_bits} else f" (MLP int{quant.mlp_bits})"
    rows = f"int{quant.matrix_bits}{mlp} rows clipped at {clip_phrase(quant)}"
    yield f"{rows}, embedding {embed}, {compressor_name(recipe.compressor)}{layout}"
    if quant.layer_bits is not None:
        run = quant.layer_bits
        yield f"int{run.bits} in layers {run.first_layer} to {run.last_layer}"
    if quant.late_k_layers:
        yield f"fp16 keys in {last_phrase(quant.late_k_layers, recipe.model)}"
    if quant.gptq is not None:
        yield f"GPTQ over {quant.gptq.calibration_tokens:,} training tokens"
    if quant.lqer is not None:
        yield f"LQER of rank {quant.lqer.rank} on {quant.lqer.num_tensors} tensors"
    if quant.prune_fraction:
        yield f"{quant.prune_fraction:.1%} of each matrix pruned"
    if quant.target_bytes is not None:
        yield f"codes pruned to {quant.target_bytes:,} bytes"


def compressor_name(compressor: Compressor) -> str:
    """The compressor."""
    own = {Compressor.RANS: "rANS", Compressor.BEST: "the best of all compressors"}
    return own.get(compressor, compressor.value)


def clip_phrase(quant: QuantConfig) -> str:
    """Where rows are clipped."""
    match quant.clip:
        case ClipRule.ROW_MAX:
            return "their row maximum"
        case ClipRule.QUANTILE:
            return "their quantile"
        case ClipRule.MSE:
            return "their quantile of least error"
        case ClipRule.SIGMA | ClipRule.HESSIAN_SIGMA:
            own = (("MLP", quant.mlp_clip_sigmas), ("embedding", quant.embed_clip_sigmas))
            others = [f"{name} {sigmas:g}" for name, sigmas in own if sigmas not in {None, quant.clip_sigmas}]
            weighed = " by importance" if quant.clip is ClipRule.HESSIAN_SIGMA else ""
            return f"{quant.clip_sigmas:g} sigmas{weighed}" + (f" ({', '.join(others)})" if others else "")
        case _:
            assert_never(quant.clip)


def scoring_phrases(evaluation: EvalConfig) -> Iterator[str]:
    """Windows and adaptation."""
    yield f"sliding-window evaluation with stride {evaluation.stride}"
    if evaluation.document_mask:
        yield "documents apart in scoring"
    if evaluation.sgd is not None:
        sgd = evaluation.sgd
        yield f"score-first SGD, {sgd.epochs} epochs a chunk of {sgd.chunk_tokens:,} tokens"
    if evaluation.lora is not None:
        lora = evaluation.lora
        phases = f", {lora.phases} phases of SGD" if lora.phases else ""
        yield f"score-first LoRA of rank {lora.rank} a document, chunks of {lora.chunk_tokens}{phases}"
