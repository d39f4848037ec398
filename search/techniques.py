"""A recipe in words, with the pull request or paper of each technique, for whoever reads a submission or a terminal."""

from collections.abc import Iterator

from search.technique import BASELINE, Technique
from search.techniques_model import part_techniques, shape_techniques
from search.techniques_storage import storage_techniques
from trainer.config import Recipe
from trainer.eval_config import EvalConfig, LoraAdaptConfig, LoraTargets
from trainer.train_config import Loader, MuonForm, NewtonSchulz, OptimConfig, QatForm, ScheduleConfig

MUON = "Muon by Keller Jordan 2024"


def techniques_by_part(recipe: Recipe) -> dict[str, list[Technique]]:
    """What the recipe does, by what it is about; what is off goes without saying."""
    return {
        "shape": [*shape_techniques(recipe.model)],
        "parts": [*part_techniques(recipe.model)],
        "training": [*training_techniques(recipe)],
        "storage": [*storage_techniques(recipe)],
        "scoring": [*scoring_techniques(recipe.evaluation)],
    }


def technique_phrases(recipe: Recipe) -> list[str]:
    """What the recipe does, in the challenge's words."""
    return [one.phrase for part in techniques_by_part(recipe).values() for one in part]


def training_techniques(recipe: Recipe) -> Iterator[Technique]:
    """Optimizer, schedule, data order, averaging."""
    yield from _optimizer_techniques(recipe.optim)
    yield from _schedule_techniques(recipe.schedule)
    if recipe.ema is not None:
        phrase = f"weights averaged (half-life {recipe.ema.half_life_fraction:.1%} of the run)"
        yield Technique(phrase, "PR 287")
    if recipe.swa is not None:
        phrase = f"checkpoints averaged from {recipe.swa.start_fraction:.1%} of the run on"
        yield Technique(phrase, "PR 162, arXiv 1803.05407")
    if recipe.qat is not None:
        is_rounded = recipe.qat.form is QatForm.STRAIGHT_THROUGH
        form, source = ("rounded", "PR 122, arXiv 1308.3432") if is_rounded else ("noisy", "PR 363")
        yield Technique(f"{form} weights in training from {recipe.qat.start_fraction:.0%} of the run on", source)


def _optimizer_techniques(optim: OptimConfig) -> Iterator[Technique]:
    forms = {
        MuonForm.PLAIN: ("Muon", f"{BASELINE}, {MUON}"),
        MuonForm.ROW_EQUALIZED: ("row-equalized Muon", f"PR 1285, {MUON}"),
        MuonForm.NORMUON: ("NorMuon", "PR 122, arXiv 2510.05491"),
    }
    name, source = forms[optim.muon]
    if optim.muon_weight_decay:
        yield Technique(f"{name} and Adam (weight decay {optim.muon_weight_decay})", f"{source}, PR 60, PR 163")
    else:
        yield Technique(f"{name} and Adam", source)
    if optim.newton_schulz is NewtonSchulz.POLAR_EXPRESS:
        yield Technique("Polar Express", "PR 1787, arXiv 2505.16932")
    if optim.grad_clip_norm is not None:
        yield Technique(f"gradients clipped at {optim.grad_clip_norm:g}", "PR 162")


def _schedule_techniques(schedule: ScheduleConfig) -> Iterator[Technique]:
    batch = f"{schedule.train_batch_tokens:,} tokens a step in sequences of {schedule.train_seq_len}"
    yield Technique(batch, BASELINE)
    if schedule.loader is not Loader.SEQUENTIAL:
        orders = {
            Loader.COPRIME_STRIDE: ("coprime-stride order of the data", "PR 1060"),
            Loader.SHUFFLED: ("shuffled order of the data", "PR 1394"),
            Loader.DOCUMENTS: ("batches from the start of a document on", "PR 1530"),
        }
        yield Technique(*orders[schedule.loader])
    if schedule.document_mask:
        yield Technique("documents apart in training", "PR 1530, arXiv 2307.08691")
    floor, source = (f" to {schedule.lr_floor:g}", "PR 163, PR 1787") if schedule.lr_floor else ("", "PR 163")
    yield Technique(f"warmdown{floor} over the last {schedule.warmdown_fraction:.1%}", f"{BASELINE}, {source}")


def scoring_techniques(evaluation: EvalConfig) -> Iterator[Technique]:
    """Windows and adaptation."""
    yield Technique(f"sliding-window evaluation with stride {evaluation.stride}", "PR 50")
    if evaluation.document_mask:
        yield Technique("documents apart in scoring", "PR 77")
    if evaluation.sgd is not None:
        sgd = evaluation.sgd
        phrase = f"score-first SGD, {sgd.epochs} epochs a chunk of {sgd.chunk_tokens:,} tokens"
        yield Technique(phrase, "PR 549, PR 1493")
    if evaluation.lora is not None:
        yield _lora_technique(evaluation.lora)


def _lora_technique(lora: LoraAdaptConfig) -> Technique:
    phases = f", {lora.phases} phases of SGD" if lora.phases else ""
    phrase = f"score-first LoRA of rank {lora.rank} a document, chunks of {lora.chunk_tokens}{phases}"
    sources = ["PR 77" if lora.targets is LoraTargets.QUERY_VALUE_HEAD else "PR 1530"]
    sources += ["PR 1767"] if lora.keeps_a else []
    sources += ["PR 1610"] if lora.phases else []
    return Technique(phrase, ", ".join([*sources, "arXiv 2106.09685"]))
