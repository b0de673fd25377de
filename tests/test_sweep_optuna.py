"""Optuna's samplers and pruners in sweeps: they decide as Optuna does, and no clock changes it."""

import json
import math

import numpy as np
import pytest

from jlayers.config.sweep import Range
from jlayers.experiments.sweep import pruners, samplers
from jlayers.experiments.sweep.ledger import add_to_ledger
from jlayers.experiments.sweep.trial import Trial

optuna = pytest.importorskip("optuna")
pytest.importorskip("cmaes")

SPACE = {"x": Range(-2.0, 2.0), "n": Range(1, 9, step=2), "rate": Range(1e-3, 1.0, log=True)}
MIXED = {**SPACE, "c": [True, 1, None, [1, 2]]}
EPOCHS = 9


def objective(values, sign=1):
    """The metric after each epoch: it falls (or rises) to a level, and now and then is not finite."""
    level = (values["x"] - 0.5) ** 2 + 0.1 * (values["n"] - 3) ** 2 + math.log10(values["rate"]) ** 2
    wave = np.cos(7 * values["x"] + np.arange(EPOCHS))
    curve = level + 3 * np.exp(-np.arange(EPOCHS) / 2) + 0.5 * wave
    if values["x"] > 1.7:
        curve[4] = np.nan
    return (sign * curve).tolist()


def told(number, values, curve, ended):
    """The line of a trial."""
    status = "pruned" if ended else "completed"
    known = tuple(value if math.isfinite(value) else None for value in curve)
    return Trial(number, values, status, curve[-1], len(curve), known)


def swept(sampler, pruner, ledger, count=14, parallel=1, direction="min", space=SPACE, seed=5):
    """A sweep as its processes carry it out; each judge reads the ledger, as a trial's process does."""
    trials = []
    for number in range(count):
        known = trials[: max(0, number - parallel + 1)]
        values = sampler(space, seed, number, direction, known, parallel, pruner.of_optuna)
        judge, curve, ended = pruner.judge(ledger, number, parallel, direction), [], False
        for value in objective(values, 1 if direction == "min" else -1):
            curve.append(value)
            if ended := judge(value):
                break
        trials.append(told(number, values, curve, ended))
        add_to_ledger(ledger, trials[-1])
    return trials


def optimized(sampler, pruner, count=14, direction="min", space=SPACE):
    """The same by Optuna itself: values and status of each trial."""

    def ask(trial):
        values = {
            name: trial.suggest_int(name, given.low, given.high, step=given.step or 1)
            if given.whole
            else trial.suggest_float(name, given.low, given.high, log=given.log)
            for name, given in space.items()
        }
        curve = objective(values, 1 if direction == "min" else -1)
        for epoch, value in enumerate(curve):
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return curve[-1]

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="sweep", direction=f"{direction}imize", sampler=sampler, pruner=pruner
    )
    study.optimize(ask, n_trials=count)
    return study.trials


SAMPLERS = [
    {"optuna.CmaEsSampler": {"popsize": 4}},
    {"optuna.CmaEsSampler": {"popsize": 4, "with_margin": True, "consider_pruned_trials": True}},
    {"optuna.NSGAIISampler": {"population_size": 4}},
    {"optuna.NSGAIIISampler": {"population_size": 4}},
    {"optuna.QMCSampler": {"scramble": True}},
    "optuna.RandomSampler",
    {"optuna.TPESampler": {"n_startup_trials": 4, "n_ei_candidates": 4}},
]
PRUNERS = [
    {"optuna.HyperbandPruner": {"max_resource": EPOCHS}},
    "optuna.HyperbandPruner",
    {"optuna.MedianPruner": {"n_startup_trials": 3, "n_warmup_steps": 1}},
    "optuna.NopPruner",
    {"optuna.PatientPruner": {"wrapped_pruner": None, "patience": 0, "min_delta": 0.3}},
    {"optuna.PatientPruner": {"wrapped_pruner": "optuna.SuccessiveHalvingPruner", "patience": 0}},
    {"optuna.PercentilePruner": {"percentile": 60.0, "n_startup_trials": 2, "interval_steps": 2}},
    {"optuna.SuccessiveHalvingPruner": {"reduction_factor": 2}},
    {"optuna.ThresholdPruner": {"upper": 6.0, "n_warmup_steps": 1}},
    {"optuna.WilcoxonPruner": {"p_threshold": 0.2}},
]
pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning",
    "ignore:The intermediate values of the current trial",  # Optuna tells of a NaN
    "ignore:All-NaN slice encountered",
)


def made(kind, registry):
    """From names within names, as a file has them."""
    if isinstance(kind, dict):
        ((name, options),) = kind.items()
        inner = {
            k: made(v, registry) if isinstance(v, (str, dict)) and k == "wrapped_pruner" else v
            for k, v in options.items()
        }
        return registry.get({name: inner})
    return registry.get(kind)


def named(kind):
    return kind if isinstance(kind, str) else json.dumps(kind)


def check_as_optuna(sampler, pruner, tmp_path, direction="min"):
    """A sweep without trials side by side is Optuna's own sequential optimization."""
    mine = made(sampler, samplers.registry), made(pruner, pruners.registry)
    trials = swept(*mine, tmp_path / "trials.jsonl", direction=direction)
    options = mine[0].options
    theirs = getattr(optuna.samplers, mine[0].cls)(seed=5, **options), mine[1].of_optuna
    found = optimized(*theirs, direction=direction)
    states = {"COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed"}
    assert [(t.values, t.status) for t in trials] == [(t.params, states[t.state.name]) for t in found]
    assert [t.epochs for t in trials] == [len(t.intermediate_values) for t in found]
    return trials


@pytest.mark.parametrize("sampler", SAMPLERS, ids=named)
def test_a_sampler_chooses_as_in_optunas_own_optimization(sampler, tmp_path):
    trials = check_as_optuna(sampler, {"optuna.MedianPruner": {"n_startup_trials": 4}}, tmp_path)
    assert len({json.dumps(t.values) for t in trials}) > 10


@pytest.mark.parametrize("pruner", PRUNERS, ids=named)
def test_a_pruner_ends_trials_as_in_optunas_own_optimization(pruner, tmp_path):
    trials = check_as_optuna("optuna.RandomSampler", pruner, tmp_path)
    statuses = {t.status for t in trials}
    assert statuses == ({"completed"} if pruner == "optuna.NopPruner" else {"completed", "pruned"})
    (tmp_path / "trials.jsonl").unlink()
    check_as_optuna(
        {"optuna.TPESampler": {"n_startup_trials": 4, "n_ei_candidates": 4}}, pruner, tmp_path, "max"
    )


def test_tpe_is_optunas_and_knows_lists(tmp_path):
    tpe, nop = samplers.tpe(n_startup_trials=3), pruners.registry.get("optuna.NopPruner")
    trials = swept(tpe, nop, tmp_path / "trials.jsonl", 12, space=MIXED)
    assert {json.dumps(t.values["c"]) for t in trials} <= {"true", "1", "null", "[1, 2]"}
    late = [trial.curve[-1] for trial in trials[6:]]
    assert np.mean(late) < np.mean([trial.curve[-1] for trial in trials[:6]])  # it has learned


@pytest.mark.parametrize("sampler", SAMPLERS, ids=named)
@pytest.mark.parametrize("parallel", [1, 3])
def test_values_follow_from_the_ledger_in_a_new_process(sampler, parallel, tmp_path):
    pruner = {"optuna.HyperbandPruner": {"max_resource": EPOCHS}}  # the one that samplers look at
    rule = made(pruner, pruners.registry)
    trials = swept(made(sampler, samplers.registry), rule, tmp_path / "trials.jsonl", parallel=parallel)
    for number in (0, 4, 9, 13):
        fresh = made(sampler, samplers.registry)  # as after a kill
        known = trials[: max(0, number - parallel + 1)]
        given = (SPACE, 5, number, "min", known, parallel, rule.of_optuna)
        assert fresh(*given) == trials[number].values


@pytest.mark.parametrize("pruner", PRUNERS, ids=named)
def test_a_trial_that_goes_on_in_a_new_process_ends_where_it_would_have(pruner, tmp_path):
    rule, ledger = made(pruner, pruners.registry), tmp_path / "trials.jsonl"
    trials = swept(samplers.registry.get("optuna.RandomSampler"), rule, ledger, parallel=2)
    for number in (2, 7, 13):  # all trials have ended by now, which must change nothing
        curve = objective(trials[number].values)
        judge = rule.judge(ledger, number, 2, "min")
        whole = [judge(value) for value in curve[: trials[number].epochs]]
        again = rule.judge(ledger, number, 2, "min")
        assert [again(value) for value in curve[: trials[number].epochs]] == whole
        assert whole[-1] == (trials[number].status == "pruned")
        place = pruners.Place(number, trials[: number - 1], 2, EPOCHS, "min")
        assert rule.ended(place, trials[number].curve) == (trials[number].status == "pruned")


def test_what_optuna_has_chosen_before_must_be_what_it_chooses_now():
    sampler = samplers.registry.get("optuna.RandomSampler")
    other = Trial(0, {"x": 0.0, "n": 1, "rate": 0.5}, "completed", 1.0, 1, (1.0,))
    with pytest.raises(ValueError, match=r"trial-000 was trained with .*Optuna chooses .* now: restore"):
        sampler(SPACE, 5, 1, "min", [other])
