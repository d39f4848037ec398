"""The ready families and golf, their whole: every field, every named recipe, and no recipe that contradicts itself."""

import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path

import optuna
import pytest
from optuna.trial import FixedTrial

from search.proposals import params_finder
from search.size import predicted_bytes
from search.spec import FAMILIES, StudySpec
from spaces import golf
from spaces.fields import SpaceError, get_value, plain_type, recipe_paths, set_values
from spaces.recipes import NAMES, named_recipe
from spaces.space import Choice, Integer, Param, Real, Space
from trainer.config import Budget, Recipe, check_fits
from trainer.model_config import GateForm, MatrixInit, ParallelForm, SmearForm
from trainer.store_config import ClipRule, Compressor, Layout

GOLF = Space(golf.params())
UNSEARCHED = {
    "model.vocab_size": "needs a dataset of its own",
    "model.dropout": "nothing to prevent with every token seen once; in no record",
    "evaluation.stride": "64 is what scores are compared at; 256 costs .002, 32 gains nothing",
}
VOCABULARIES = (1024, 4096, 8192)
SMALL = ("shape", "optimizer", "quantization")  # for a first study
NUM_POINTS = 100  # a vocabulary


def with_vocabulary(vocab_size: int) -> Recipe:
    return set_values(Recipe(), {"model.vocab_size": vocab_size})


def random_points(space: Space, base: Recipe, count: int) -> list[Recipe]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=base.model.vocab_size))
    return [space.suggest(study.ask(), base) for _ in range(count)]


@pytest.fixture(scope="module")
def points() -> list[Recipe]:
    """Random points of golf for each vocabulary; drawing them fails where one contradicts itself."""
    return [point for size in VOCABULARIES for point in random_points(GOLF, with_vocabulary(size), NUM_POINTS)]


def test_golf_reaches_every_field() -> None:
    searched = {param.path for param in GOLF.params}
    assert set(recipe_paths()) - searched == set(UNSEARCHED)


def test_golf_has_all_families() -> None:
    families = [param.path for name, params in FAMILIES.items() if name != "golf" for param in params()]
    assert sorted(param.path for param in GOLF.params) == sorted(families)


@pytest.mark.parametrize("name", SMALL)
def test_the_families_for_a_first_study_are_small(name: str) -> None:
    assert len(FAMILIES[name]()) <= 10


def test_the_readme_counts_params() -> None:
    text = (Path(__file__).parents[2] / "studies" / "README.md").read_text()
    for name in FAMILIES.keys() - {"golf"}:
        assert f"| `{name}` | {len(FAMILIES[name]())} |" in text, name


def test_every_member_of_every_enum_is_an_option() -> None:
    domains = {param.path: param.domain for param in GOLF.params}
    enums = {path: kind for path, hint in recipe_paths().items() if issubclass(kind := plain_type(hint), Enum)}
    assert len(enums) > 10
    for path, kind in enums.items():
        domain = domains[path]
        assert isinstance(domain, Choice)
        assert set(domain.options.values()) == set(kind), path


@pytest.mark.parametrize("params", FAMILIES.values(), ids=FAMILIES.keys())
def test_each_family_holds_the_naive_baseline(params: Callable[[], tuple[Param, ...]]) -> None:
    space = Space(params())
    assert space.suggest(FixedTrial(space.fix(Recipe(), Recipe())), Recipe()) == Recipe()


@pytest.mark.parametrize("params", FAMILIES.values(), ids=FAMILIES.keys())
def test_no_family_proposes_a_contradiction_around_the_naive_baseline(
    params: Callable[[], tuple[Param, ...]],
) -> None:
    random_points(Space(params()), Recipe(), 40)


@pytest.mark.parametrize("base_name", NAMES)
def test_golf_depends_on_nothing_of_the_base_but_what_it_does_not_search(base_name: str) -> None:
    base = named_recipe(base_name)
    plain = with_vocabulary(base.model.vocab_size)
    assert random_points(GOLF, base, 10) == random_points(GOLF, plain, 10)


@pytest.mark.parametrize("name", NAMES)
def test_each_named_recipe_is_a_point_that_optuna_asks_for(name: str) -> None:
    recipe = named_recipe(name)
    base = with_vocabulary(recipe.model.vocab_size)
    study = optuna.create_study()
    study.enqueue_trial(GOLF.fix(recipe, base))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of values outside their range, which Optuna takes nevertheless
        trial = study.ask()
        assert GOLF.suggest(trial, base) == recipe
    assert trial.params == GOLF.fix(recipe, base)


@pytest.mark.parametrize("name", NAMES)
def test_each_named_recipe_is_a_point_with_the_smallest_vocabulary_too(name: str) -> None:
    recipe = set_values(named_recipe(name), {"model.vocab_size": 1024})
    assert GOLF.suggest(FixedTrial(GOLF.fix(recipe, Recipe())), Recipe()) == recipe


def test_named_recipes_in_the_queue_of_a_study_of_golf_are_enqueued_as_points() -> None:
    spec = StudySpec.model_validate(
        {
            "name": "queued",
            "space": {"include": ["golf"]},
            "queue": [{"recipe": name} for name in NAMES],
            "data": {"path": "data", "tokenizer": "data/tokenizer.model"},
            "rungs": [{"name": "proxy", "budget": {"train_tokens": 1_000_000}, "trials": 20}],
        }
    )
    params_of = params_finder(spec)
    points = [dict(params_of(recipe)) for recipe in spec.queued_recipes()]
    assert [spec.build_space().suggest(FixedTrial(point), Recipe()) for point in points] == [*spec.queued_recipes()]


@pytest.mark.parametrize("name", ["pr333", "record_162", "record_414", "record_1218"])
def test_tables_of_tokens_are_no_points_with_a_large_vocabulary(name: str) -> None:
    recipe = set_values(named_recipe(name), {"model.vocab_size": 8192})
    with pytest.raises(SpaceError, match=r"model\.(bigram|value_embed): must be null where it is not searched"):
        GOLF.fix(recipe, with_vocabulary(8192))


def test_every_end_and_option_is_valid() -> None:
    base = set_values(Recipe(), {"schedule.train_batch_tokens": 786_432, "quant.gptq": {}})
    for param in GOLF.params:
        match param.domain:
            case Choice(options):
                values = list(options.values())
            case Real(low, high) | Integer(low, high):
                values = [low, high]
        for value in values:
            set_values(base, {param.path: value})


def test_fix_undoes_every_suggestion(points: list[Recipe]) -> None:
    for point in points[::10]:
        base = with_vocabulary(point.model.vocab_size)
        assert GOLF.suggest(FixedTrial(GOLF.fix(point, base)), base) == point


def test_points_can_run_and_their_size_is_known(points: list[Recipe]) -> None:
    for point in points[::10]:
        check_fits(point, Budget(train_seconds=600, world_size=8))
        assert 500_000 < predicted_bytes(point, code_bytes=40_000) < 150_000_000


def _sigmas(recipe: Recipe) -> bool:
    return recipe.quant.clip in {ClipRule.SIGMA, ClipRule.HESSIAN_SIGMA}


def _first_lane(recipe: Recipe) -> int:
    return recipe.model.num_layers - (recipe.model.parallel.last_layers if recipe.model.parallel else 0)


# Couplings of techniques: where the first holds, so must the second.
COUPLINGS: Mapping[str, tuple[Callable[[Recipe], object], Callable[[Recipe], object]]] = {
    "bigram tables pay with a small vocabulary": (lambda r: r.model.bigram, lambda r: r.model.vocab_size <= 2048),
    "value tables pay up to 4096": (lambda r: r.model.value_embed, lambda r: r.model.vocab_size <= 4096),
    "a convex smear needs orthogonal matrices and a small vocabulary": (
        lambda r: r.model.smear and r.model.smear.form is SmearForm.CONVEX,
        lambda r: r.model.matrix_init is MatrixInit.ORTHOGONAL and r.model.vocab_size <= 2048,
    ),
    "a residual smear has no gate to start": (
        lambda r: r.model.smear and r.model.smear.form is SmearForm.RESIDUAL,
        lambda r: get_value(r, "model.smear.gate_init") == 0.0,
    ),
    "only the sparse gate has a scale": (
        lambda r: r.model.gate and r.model.gate.form is not GateForm.SPARSE,
        lambda r: get_value(r, "model.gate.scale") == 0.5,
    ),
    "a loop lies inside the model": (
        lambda r: r.model.loop,
        lambda r: get_value(r, "model.loop.last_layer") < r.model.num_layers,
    ),
    "four passes cost": (lambda r: r.model.loop, lambda r: get_value(r, "model.loop.passes") <= 3),
    "two lanes lie behind the loop": (
        lambda r: r.model.loop and r.model.parallel and r.model.parallel.form is ParallelForm.TWO_LANE,
        lambda r: get_value(r, "model.loop.last_layer") < _first_lane(r),
    ),
    "hidden widths are whole tiles": (lambda _: True, lambda r: r.model.mlp_dim % 64 == 0),
    "one average of weights": (lambda r: r.swa, lambda r: r.ema is None),
    "GPTQ does the work of training with rounding": (lambda r: r.quant.gptq, lambda r: r.qat is None),
    "training rounds as the file does": (
        lambda r: r.qat,
        lambda r: r.quant.clip in {ClipRule.ROW_MAX, ClipRule.QUANTILE, ClipRule.SIGMA},
    ),
    "the clip by Hessians has them": (lambda r: r.quant.clip is ClipRule.HESSIAN_SIGMA, lambda r: r.quant.gptq),
    "deviations are searched, and bits are not": (
        _sigmas,
        lambda r: r.quant.matrix_bits == 6 and r.quant.mlp_bits is None and r.quant.layer_bits is None,
    ),
    "a step by deviations has no floor": (_sigmas, lambda r: not r.quant.scale_is_floored),
    "late keys keep 16 bits only without GPTQ": (lambda r: r.quant.gptq, lambda r: r.quant.late_k_layers == 0),
    "bits of tables and gates that there are": (
        lambda r: not (r.model.bigram or r.model.value_embed or r.model.gate),
        lambda r: r.quant.table_bits is None and r.quant.gate_bits == 16,
    ),
    "an fp16 table has no clip": (lambda r: r.quant.embed_bits == 16, lambda r: r.quant.embed_clip_sigmas is None),
    "our own coder has its own layout": (
        lambda r: r.compressor in {Compressor.RANS, Compressor.BEST},
        lambda r: r.layout is Layout.PLAIN,
    ),
    "windows are hardly longer than in training": (
        lambda r: r.evaluation.seq_len,
        lambda r: get_value(r, "evaluation.seq_len") <= 1.4 * r.schedule.train_seq_len,
    ),
    "one adaptation": (lambda r: r.evaluation.lora, lambda r: r.evaluation.sgd is None),
    "base weights are trained in phases": (
        lambda r: r.evaluation.lora and r.evaluation.lora.phases == 0,
        lambda r: (
            get_value(r, "evaluation.lora.prefix_fraction") == 0.05
            and get_value(r, "evaluation.lora.phase_lr") == 0.001
        ),
    ),
}


@pytest.mark.parametrize("name", COUPLINGS)
def test_points_keep_the_couplings_of_techniques(name: str, points: list[Recipe]) -> None:
    applies, holds = COUPLINGS[name]
    concerned = [point for point in points if applies(point)]
    assert len(concerned) >= 5  # random points reach it
    assert all(holds(point) for point in concerned)


def test_points_reach_what_conditions_guard(points: list[Recipe]) -> None:
    for path in ("model.loop", "model.parallel", "swa", "qat", "evaluation.sgd", "evaluation.lora", "quant.gptq"):
        assert 0.1 <= sum(get_value(point, path) is not None for point in points) / len(points) <= 0.9, path
    assert {point.layout for point in points} == set(Layout)
    assert any(point.model.loop and point.model.parallel for point in points)
    assert {point.model.smear.form for point in points if point.model.smear} == set(SmearForm)
