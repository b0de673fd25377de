"""The benchmarks without the other libraries: equal models, the judgement of goals, the report."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compare, goals, ops, report
from benchmarks.loops import LOOPS
from benchmarks.peers import LIBRARIES, hand
from benchmarks.peers import jlayers as ours
from benchmarks.peers._jax import count
from benchmarks.worker import Worker
from benchmarks.workloads import CLASSES, WORKLOADS, expected_parameters


@pytest.fixture(autouse=True)
def lenient_promotion():
    """What is written by hand adds biases as everyone does, and Optax multiplies by whole numbers."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


DEEP = ("resnet20", "mobilenet")  # a second each


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in WORKLOADS]
)
def test_our_model_and_the_one_by_hand_are_the_same(name):
    workload = WORKLOADS[name]
    x, y = workload.data()
    assert (x.shape, y.shape) == ((workload.batch, *workload.shape), (workload.batch,))
    key = jax.random.key(0)
    model = ours.MODELS[workload.kind](workload)
    init, apply = hand.MODELS[workload.kind](workload)
    ours_first = jax.eval_shape(lambda: model.init(key, x.shape if x.dtype == "float32" else x))
    hand_first = jax.eval_shape(init, key)
    for mine, theirs in zip(ours_first, hand_first, strict=True):
        assert count(mine) == count(theirs)
        assert sorted(leaf.size for leaf in jax.tree.leaves(mine)) == sorted(sizes_of(theirs, name))
    ours_out = jax.eval_shape(lambda p, s: model.apply(p, s, jnp.asarray(x), train=True), *ours_first)
    hand_out = jax.eval_shape(lambda p, s: apply(p, s, jnp.asarray(x), True), *hand_first)
    assert ours_out[0].shape == hand_out[0].shape == (workload.batch, CLASSES)


def sizes_of(tree, name):
    """Sizes of the arrays, queries, keys and values apart, which one matrix holds by hand."""
    sizes = []
    for path, leaf in jax.tree.leaves_with_path(tree):
        joined = name == "transformer" and "'qkv'" in jax.tree_util.keystr(path)
        sizes += [leaf.size // 3] * 3 if joined else [leaf.size]
    return sizes


def test_the_models_have_the_parameters_that_their_papers_give():
    def parameters(name):
        workload = WORKLOADS[name]
        return count(jax.eval_shape(hand.MODELS[workload.kind](workload)[0], jax.random.key(0))[0])

    assert parameters("tiny_mlp") == 64 * 32 + 32 + 32 * 10 + 10
    assert parameters("cnn") == 320 + (13 * 13 * 32 * 128 + 128) + 1290
    assert parameters("lstm") == 64_000 + 4 * 128 * (64 + 128 + 1) + 1290
    assert parameters("resnet20") == 269_722 + (16 * 32 + 64) + (32 * 64 + 128)  # and two projections


def test_recurrent_cells_may_differ_in_their_biases():
    assert expected_parameters("torch", WORKLOADS["lstm"], 1000) == 1000 + 4 * 128
    assert expected_parameters("nnx", WORKLOADS["gru"], 1000) == 1000 - 3 * 128
    assert expected_parameters("torch", WORKLOADS["cnn"], 1000) == 1000


@pytest.mark.parametrize("library", ["jlayers", "hand"])
def test_a_worker_builds_trains_and_predicts(library):
    worker = Worker(library)
    built = worker.build("tiny_mlp", {"widths": [8]})
    assert built["parameters"] == 64 * 8 + 8 + 80 + 10
    trained = worker.train(20)
    assert trained["loss"] < built["loss"]
    assert trained["seconds"] > 0
    assert worker.predict(2)["shape"] == (32, 10)
    assert worker.memory()["program"] > 4 * built["parameters"]


@pytest.mark.parametrize("each", ops.CASES, ids=lambda each: f"{each.name} {each.shapes[0]}")
def test_forms_of_an_op_take_and_give_the_same_shapes(each):
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in each.shapes]
    assert jax.eval_shape(each.fast, *inputs) == jax.eval_shape(each.plain, *inputs)


# ----------------------------------------------------------------------------------- recorded results


def measured(step, program=2**20, parameters=100):
    """What a run finds of a library whose steps take `step` seconds and whose inference half of that."""
    return {
        "train": [step, 2 * step, 3 * step],
        "predict": [step / 2] * 3,
        "fresh": [step],
        "first_step": [2.0],
        "import": [1.0],
        "init": [0.5],
        "first": [0.5],
        "program": [program] if program else [],
        "process": [3 * 2**20],
        "parameters": parameters,
        "loss": [2.3, 1.0],
        "logits": [128, 10],
    }


def results(**workloads):
    return {
        "date": "2026-01-01",
        "machine": {"processor": "a chip", "cores": 2, "system": "an OS", "load before": 0.1},
        "versions": {"jax": "0.10.2"},
        "absent": ["Haiku"],
        "rounds": 3,
        "sizes": {name: {"kind": name, "batch": 128} for name in workloads},
        "workloads": workloads,
        "loops": {"jl.fit, 1 step a call": [6e-5, 9e-5], "bare loop": [6e-5, 6e-5]},
        "problems": ["something broke"],
    }


CNN = {
    "jlayers": measured(0.01),
    "hand": measured(0.05, program=2**21),
    "linen": measured(0.04, program=2**19),
    "torch": measured(0.02, program=None),
}


def test_goals_take_the_fastest_peer_on_jax():
    found = results(cnn=CNN)
    assert goals.fastest_peer(CNN) == "linen"
    assert goals.against(found, "cnn", "train", goals.FASTEST) == pytest.approx(0.25)
    assert goals.against(found, "cnn", "train", "torch") == pytest.approx(0.5)
    assert goals.against(found, "cnn", "program", goals.FASTEST) == 2.0  # of the fastest, not the smallest
    assert goals.against(found, "cnn", "program", "torch") is None
    assert goals.against(found, "mlp", "train", goals.FASTEST) is None


def test_a_ratio_is_taken_round_by_round():
    assert goals.ratio([1.0, 20.0, 3.0], [2.0, 40.0, 1.0]) == 0.5


def test_goals_are_hit_missed_or_not_measured():
    found = results(cnn=CNN)
    words = {goal.text: goals.verdict(goal, found) for goal in goals.GOALS}
    assert words["cnn: step / fastest JAX peer"] == (0.25, "hit")
    assert words["cnn: memory of the compiled step / fastest JAX peer"] == (2.0, "miss")
    assert words["tiny_mlp: fit / bare jitted loop"] == (1.25, "miss")
    assert words["mlp: step / hand-written JAX"] == (None, "not measured")


def test_every_goal_is_measured_by_a_whole_run():
    everything = results(**dict.fromkeys(WORKLOADS, CNN))
    everything["loops"] = {name: [6e-5, 6e-5] for name in LOOPS}
    assert all(goals.verdict(goal, everything)[1] in ("hit", "miss") for goal in goals.GOALS)


def test_the_report_has_tables_of_what_was_measured(tmp_path):
    found = results(cnn=CNN)
    found["scaling"] = {"batch": {"32": {"jlayers": {"train": [0.002], "build": [1.5]}}}}
    paths = report.write(found, tmp_path / "run")
    assert [path.suffix for path in paths] == [".json", ".md", ".png"]
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    lines = paths[1].read_text(encoding="utf-8").splitlines()
    for line in (
        "Not installed: Haiku.",
        "![Time of a training step](run.png)",
        "| cnn: step / fastest JAX peer | ≤ 0.30 | 0.25 | hit |",
        "| cnn: memory of the compiled step / fastest JAX peer | ≤ 1.00 | 2.00 | **miss** |",
        "| cnn | 0.25 (Flax Linen) | 0.20 | 0.50 | 0.25 (Flax Linen) | 0.20 | 0.50 |",
        "| PyTorch | 40.0 ms (30.0 ms – 50.0 ms) | 2.00 | 10.0 ms (10.0 ms – 10.0 ms) | 2.00 "
        "| 2.00 s | 1.00 s | 500 ms | 500 ms | – | 3.00 | 100 |",
        "| jl.fit, 1 step a call | 75.0 µs | 1.25 |",
        "| jlayers | 2.00 ms | 1.50 s |",
        "- something broke",
    ):
        assert line in lines


def test_an_unfair_comparison_is_told():
    assert compare.check("cnn", CNN) == []
    unlike = {**measured(0.01, parameters=99), "loss": [2.3, 2.4], "logits": [128, 9]}
    assert compare.check("cnn", {**CNN, "linen": unlike}) == [
        "Flax Linen, cnn: 99 parameters, expected 100",
        "Flax Linen, cnn: logits of shape [128, 9]",
        "Flax Linen, cnn: the loss went from 2.300 to 2.400",
    ]
    loud = {**measured(0.01), "loss": [23.0, 2.0]}
    assert compare.check("cnn", {"jlayers": loud}) == [
        "jlayers, cnn: a first loss of 23.000, expected about 2.303"
    ]


def test_loops_belong_to_libraries():
    assert {library for library, _ in LOOPS.values()} <= set(LIBRARIES)
