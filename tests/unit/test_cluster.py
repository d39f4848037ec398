"""Needs, slots and the variables that Ray reads."""

from itertools import combinations_with_replacement

from hypothesis import given
from hypothesis import strategies as st

from search.cluster import Need, Resources, count_slots, describe, ray_variables


def gpus(count: int, accelerator: str | None = None) -> Need:
    return Need(num_cpus=0, num_gpus=count, accelerator=accelerator)


def cpus(count: int) -> Need:
    return Need(num_cpus=count, num_gpus=0, accelerator=None)


H100_NODE: Resources = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:H100": 1.0, "memory": 1e11}
A100_NODE: Resources = {"CPU": 16.0, "GPU": 4.0, "accelerator_type:A100": 1.0}
LAPTOP: Resources = {"CPU": 2.0}


def test_a_run_takes_whole_gpus_of_one_node() -> None:
    nodes = [H100_NODE, A100_NODE]
    assert count_slots(nodes, [], gpus(8)) == 1
    assert count_slots(nodes, [], gpus(1)) == 12
    assert count_slots(nodes, [], gpus(3)) == 3
    assert count_slots([A100_NODE, A100_NODE], [], gpus(8)) == 0


def test_a_named_kind_is_the_only_one_taken() -> None:
    nodes = [H100_NODE, A100_NODE, LAPTOP]
    assert count_slots(nodes, [], gpus(1, "H100")) == 8
    assert count_slots(nodes, [], gpus(1, "H200")) == 0


def test_small_runs_leave_no_slot_for_a_whole_node_until_the_last_is_done() -> None:
    assert count_slots([H100_NODE], [gpus(1)], gpus(8)) == 0
    assert count_slots([H100_NODE, H100_NODE], [gpus(1)] * 3, gpus(8)) == 1


def test_runs_of_a_lost_node_take_nothing_from_the_others() -> None:
    assert count_slots([LAPTOP], [gpus(8)], cpus(1)) == 2


def test_no_node_has_no_slot() -> None:
    assert count_slots([], [], cpus(1)) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 9), st.data())
def test_every_held_run_takes_one_slot_of_its_own_kind(sizes: list[int], size: int, data: st.DataObject) -> None:
    nodes: list[Resources] = [{"GPU": float(count)} for count in sizes]
    slots = sum(count // size for count in sizes)
    held = data.draw(st.integers(0, slots))
    assert count_slots(nodes, [gpus(size)] * held, gpus(size)) == slots - held


def test_slots_never_exceed_what_is_left_in_sum() -> None:
    for held in combinations_with_replacement([gpus(1), gpus(2), gpus(4)], 4):
        taken = sum(need.num_gpus for need in held)
        assert count_slots([H100_NODE, H100_NODE], held, gpus(2)) * 2 + taken <= 16


def test_needs_and_clusters_are_described_for_people() -> None:
    assert str(gpus(8, "H100")) == "8 GPUs of kind H100 on one node"
    assert str(cpus(1)) == "1 CPU on one node"
    assert describe([LAPTOP, H100_NODE]) == "16 CPUs and 8 GPUs (H100); 2 CPUs"
    assert describe([]) == "no node"


def test_a_ray_of_our_own_gets_a_secret_of_its_own() -> None:
    first, second = ray_variables("local", {}), ray_variables("local", {})
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


def test_a_clusters_token_is_the_users() -> None:
    assert "RAY_AUTH_TOKEN" not in ray_variables("10.0.0.1:6379", {})
    assert "RAY_AUTH_TOKEN" not in ray_variables("local", {"RAY_AUTH_TOKEN_PATH": "/run/secrets/ray"})


def test_what_the_user_has_set_stays() -> None:
    assert "RAY_AUTH_MODE" not in ray_variables("local", {"RAY_AUTH_MODE": "disabled"})
