"""The joint model: its gradient, what cheap runs tell it of dear ones, and what it makes of runs under way."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import check_grad

from search import joint_model
from search.joint_model import Runs, compress, expected_improvement, fit_joint, middle_of, prior, scale, unit_of

Array = NDArray[np.float64]


def law(points: Array, shift: float) -> Array:
    """A bowl whose lowest point is elsewhere in the dear rung."""
    return 1.2 + 0.5 * (points[:, 0] - 0.3 - shift) ** 2 + 0.3 * (points[:, 1] - 0.6) ** 2


def runs(cheap: int, dear: int, seed: int = 0) -> Runs:
    random = np.random.default_rng(seed)
    points = random.random((cheap + dear, 3))
    points[cheap:] = points[:dear]
    rungs = np.repeat([0, 1], [cheap, dear])
    scores = np.where(rungs == 0, 0.3 + law(points, 0.0), law(points, 0.15))
    return Runs(points_ND=points, rungs_N=rungs, scores_N=scores + 0.002 * random.standard_normal(len(points)))


def test_the_gradient_is_that_of_the_loss() -> None:
    data = runs(12, 4)
    means, deviations = prior(3, 2)
    squares = np.square(data.points_ND.T[:, :, None] - data.points_ND.T[:, None, :])
    parts = (squares, data.rungs_N, scale(data.scores_N, data.rungs_N), means, deviations)
    theta = means + 0.3 * np.random.default_rng(1).standard_normal(len(means))
    loss = joint_model._loss  # pyright: ignore[reportPrivateUsage]
    assert check_grad(lambda t: loss(t, *parts)[0], lambda t: loss(t, *parts)[1], theta) < 1e-4


def test_cheap_runs_say_most_of_dear_scores_and_dear_runs_the_rest() -> None:
    others = np.random.default_rng(5).random((200, 3))
    truth = law(others, 0.15)
    errors = []
    for dear in (2, 12):
        model = fit_joint(runs(40, dear), 2)
        errors.append(1 - np.corrcoef(model.predict(others, 1)[0], truth)[0, 1])
    alone = runs(40, 12)
    is_dear = alone.rungs_N == 1
    few = Runs(points_ND=alone.points_ND[is_dear], rungs_N=np.zeros(12, int), scores_N=alone.scores_N[is_dear])
    dear_only = 1 - np.corrcoef(fit_joint(few, 1).predict(others, 0)[0], truth)[0, 1]
    assert errors[1] < errors[0] < 0.3
    assert errors[1] < dear_only


def test_a_run_under_way_is_worth_little_a_second_time() -> None:
    model = fit_joint(runs(30, 6), 2)
    point = np.array([[0.9, 0.1, 0.5]])
    believing = model.believing(point, 0)
    assert believing.predict(point, 0)[0] == np.float64(model.predict(point, 0)[0]).round(12) or np.allclose(
        believing.predict(point, 0)[0], model.predict(point, 0)[0], atol=1e-6
    )
    assert believing.predict(point, 1)[1] < model.predict(point, 1)[1]
    assert model.believing(np.empty((0, 3)), 0) is model


def test_bad_scores_are_compressed_in_their_order() -> None:
    scores = np.array([1.0, 1.1, 1.2, 1.3, 30.0])
    squeezed = compress(scores)
    assert np.all(np.diff(squeezed) > 0)
    assert np.array_equal(squeezed[:3], scores[:3])
    assert squeezed[-1] < 3


def test_scaled_scores_are_those_of_a_rung_about_its_middle() -> None:
    data = runs(12, 4)
    scaled, unit = scale(data.scores_N, data.rungs_N), unit_of(data.scores_N, data.rungs_N)
    for rung in (0, 1):
        of_rung = data.rungs_N == rung
        back = middle_of(data.scores_N, data.rungs_N, rung) + unit * scaled[of_rung]
        assert np.allclose(back, compress(data.scores_N[of_rung]))


def test_improvement_is_expected_where_means_are_low_or_little_is_known() -> None:
    means, deviations = np.array([0.0, 0.0, -1.0]), np.array([1e-6, 1.0, 1e-6])
    found = expected_improvement(means, deviations, best=0.0)
    assert np.allclose(found, [0.0, 1 / np.sqrt(2 * np.pi), 1.0], atol=1e-5)
