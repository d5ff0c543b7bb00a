"""The parts of the benchmarks that compute figures from measurements."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from arsvd.data.sources.mnist import folder
from benchmarks import gpu, naive, overhead, scale
from benchmarks.gpu import result_path
from benchmarks.inference import plain_forward, shares
from benchmarks.naive import (
    REFERENCE,
    Pace,
    pace,
    parts,
    same_trials,
    time_to,
    times_faster,
    with_hypervolume,
)
from benchmarks.naive_sweep import SPACE, accuracy, build, in_memory, truncate
from benchmarks.overhead import idle_seconds
from benchmarks.processes import ProcessWatch
from benchmarks.reporting import arguments, lacks_mnist
from benchmarks.scale_simulation import MEAN_SECONDS, NODES, interpolated, simulate
from sweeps.config import load_config
from sweeps.search import Study


class TestReporting:
    def test_every_benchmark_takes_a_data_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["benchmark", "--small", "--data-dir", "images"])
        given = arguments("A benchmark.")

        assert (given.size, given.data_dir) == ("small", Path("images"))

    @pytest.mark.parametrize("module", [overhead, naive], ids=["overhead", "naive"])
    def test_a_small_run_without_mnist_says_how_to_get_it(
        self,
        module: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["benchmark", "--small", "--data-dir", str(tmp_path)])
        module.main()

        (line,) = capsys.readouterr().out.splitlines()
        assert f"arsvd data mnist --data-dir {tmp_path}" in json.loads(line)["skipped"]

    def test_a_full_run_and_one_with_mnist_continue(self, tmp_path: Path) -> None:
        there = tmp_path / "there"
        folder(there).mkdir(parents=True)

        assert lacks_mnist("naive", argparse.Namespace(size="small", data_dir=tmp_path))
        assert not lacks_mnist("naive", argparse.Namespace(size="full", data_dir=tmp_path))
        assert not lacks_mnist("naive", argparse.Namespace(size="small", data_dir=there))


class TestOverhead:
    def test_no_size_trains_on_a_gpu(self) -> None:
        for size in overhead.SIZES.values():
            assert load_config(size.config, size.changes).resources.gpu == 0

    def test_idle_time_is_all_that_is_not_work(self) -> None:
        # two cores from 100: the one works 101-111 and 112-120, the other 103-115
        idle = idle_seconds([111.0, 120.0, 115.0], [10.0, 8.0, 12.0], start=100.0, cores=2)

        assert idle == {
            "before the first members": pytest.approx(1 + 3),
            "after a core's last member": pytest.approx(5),
            "between members": pytest.approx(1),
        }

    def test_a_process_is_seen_with_its_memory(self) -> None:
        held = torch.ones(30_000_000)  # 120 MB
        with ProcessWatch(every=0.05) as watch:
            usage = watch.look()

        (driver,) = (seen for seen in usage.values() if seen.name == "driver")
        assert driver.peak_mb > held.numel() * 4 / 1e6
        assert driver.cpu_seconds > 0


class TestNaive:
    def test_hypervolume_grows_in_the_order_of_time(self) -> None:
        late = (9.0, {"params": REFERENCE // 10, "accuracy": 0.9})
        early = (4.0, {"params": REFERENCE // 10, "accuracy": 0.5})
        entries = with_hypervolume([late, early])

        assert [entry["time"] for entry in entries] == [4.0, 9.0]
        assert [entry["hypervolume"] for entry in entries] == [
            pytest.approx(0.25, abs=0.001),
            pytest.approx(0.45, abs=0.001),
        ]
        assert time_to(entries, 0.4) == 9.0
        assert time_to(entries, 0.6) is None

    @pytest.mark.parametrize(
        "times",
        [(15, 15, 20, 20, 25, 25, 30, 30), (12.5, 15, 17.5, 20, 22.5, 25, 27.5, 30, 32.5)],
        ids=["in waves", "in turn"],
    )
    def test_start_up_counts_once_and_a_trial_takes_half_as_long_on_two_cores(
        self, times: tuple[float, ...]
    ) -> None:
        found = pace([{"time": seconds} for seconds in times], cores=2)

        assert found == Pace(first_wave=15, a_trial=pytest.approx(2.5), cores=2)
        assert found.seconds(len(times) // 2 * 2) == pytest.approx(30)

    def test_one_wave_has_no_pace(self) -> None:
        assert pace([{"time": 1.0}, {"time": 2.0}, {"time": 3.0}], cores=2) is None

    def test_steps_are_compared_with_the_plain_script(self) -> None:
        plain = [{"time": 50.0, "hypervolume": 0.3}, {"time": 100.0, "hypervolume": 0.5}]
        own = [{"time": 5.0, "hypervolume": 0.9, "weight_hypervolume": 0.4}]
        rows = parts({"plain": plain}, own, cores=1)

        assert {row["step"]: row["times_faster"] for row in rows} == {
            "plain": 1.0,
            "thresholds": None,
            "sweep": pytest.approx(20.0),
        }
        assert times_faster(plain, own) == {"1": 10.0, "2": 20.0}

    def test_variants_are_compared_trial_by_trial(self) -> None:
        # start-up 10 s, two trials at a time, 10 s each; the plain script goes on for four trials more
        plain = [_trial(10 + 10 * (1 + n // 2), n) for n in range(8)]
        equal, twice = plain[:4], [_trial(10 + 5 * (1 + n // 2), n) for n in range(4)]
        own = [{"time": 5.0, "hypervolume": 9.0, "weight_hypervolume": 9.0}]
        rows = {
            row["step"]: row for row in parts({"plain": plain, "reuse": equal, "memory": twice}, own, cores=2)
        }

        assert rows["reuse"]["times_faster"] == pytest.approx(1.0)
        assert rows["reuse"]["seconds"] == pytest.approx(rows["plain"]["seconds"])
        assert rows["memory"]["times_faster"] == pytest.approx(2.0)
        assert rows["memory"]["seconds"] == pytest.approx(10 + 5 * 4)
        assert "the same 4 trials" in rows["memory"]["how"]

    def test_trials_with_different_draws_are_named(self) -> None:
        plain = [_trial(10.0 * n, n) for n in range(1, 5)]
        others = [_trial(10.0 * n, n + 50) for n in range(1, 5)]
        own = [{"time": 5.0, "hypervolume": 9.0, "weight_hypervolume": 9.0}]

        assert same_trials(plain, others) is None
        (row,) = (
            row for row in parts({"plain": plain, "reuse": others}, own, cores=2) if row["step"] == "reuse"
        )
        assert "the draws differ" in row["how"]

    def test_small_variants_have_two_waves_on_two_cores(self) -> None:
        for size in (naive.SIZES["full"], naive.SIZES["small"]):
            assert all(trials >= 4 and trials % 2 == 0 for trials in size.trials.values())

    def test_the_first_trials_of_all_variants_are_drawn_at_random(self) -> None:
        # in the order in which other variants end their trials, and with other results
        assert _drawn(8, value=0.1, lag=1) == _drawn(8, value=0.9, lag=3)

    def test_truncation_keeps_the_function_at_full_energy_and_shrinks_it_below(self) -> None:
        torch.manual_seed(0)
        model, x = build([64, 32], 0.0).eval(), torch.rand(20, 1, 28, 28)
        size = sum(parameter.numel() for parameter in model.parameters())

        torch.testing.assert_close(truncate(model, 1.0)(x), model(x))
        assert sum(parameter.numel() for parameter in truncate(model, 0.3).parameters()) < size / 2

    def test_accuracy_is_equal_with_a_loader_and_in_memory(self) -> None:
        torch.manual_seed(0)
        split = torch.utils.data.Subset(
            torch.utils.data.TensorDataset(torch.rand(50, 1, 28, 28), torch.arange(50) % 10), range(45)
        )
        model = build([16], 0.0).eval()

        assert accuracy(model, split) == accuracy(model, in_memory(split))


def _trial(seconds: float, number: int) -> dict[str, Any]:
    return {"time": float(seconds), "hypervolume": float(number), "drawn": {"lr": number}}


def _drawn(trials: int, value: float, lag: int) -> list[dict[str, Any]]:
    """Ask Tune's OptunaSearch, and tell it of a trial when `lag` more have begun."""
    from ray.tune.search.optuna import OptunaSearch

    search = OptunaSearch(metric=["accuracy", "params"], mode=["max", "min"], seed=0)
    search.set_search_properties(["accuracy", "params"], ["max", "min"], SPACE)
    found = []
    for number in range(trials):
        found.append(search.suggest(str(number)))
        if number >= lag:
            search.on_trial_complete(str(number - lag), {"accuracy": value + number / 100, "params": number})
    return found


class TestScale:
    def test_an_idle_driver_lets_the_nodes_train_all_the_time(self) -> None:
        found = simulate(lambda _: 0.0, members=20_000)

        assert found["rate"] == pytest.approx(NODES / MEAN_SECONDS, rel=0.05)
        assert found["busy_share"] > 0.95

    def test_a_slow_driver_sets_the_rate(self) -> None:
        found = simulate(lambda _: 2.0, members=2000)

        assert found["rate"] == pytest.approx(0.5, rel=0.05)
        assert found["busy_share"] == pytest.approx(0.5 * MEAN_SECONDS / NODES, rel=0.1)

    def test_shorter_members_saturate_the_driver(self) -> None:
        asks = [_asks("tpe", members, ask_seconds=0.2) for members in (100, 1000)]
        filing = [{"members": members, "filed_seconds": 0.05} for members in (100, 1000)]
        rows = scale.scenarios(asks, filing, tune_seconds=0.05, members=2000)

        assert [row["demand"] for row in rows] == pytest.approx([100 / 30, 100 / 10, 100 / 3])
        assert [row["saturation_rate"] for row in rows] == pytest.approx([1 / 0.3] * 3)
        assert rows[0]["rate"] < rows[2]["rate"] == pytest.approx(1 / 0.3, rel=0.05)
        assert rows[2]["busy_share"] < 0.2

    def test_tunes_time_is_said_to_be_extrapolated(self) -> None:
        rows = [{"concurrent": 2, "late_rate": 70.0}, {"concurrent": 8, "late_rate": 20.0}]
        term = scale.tune_term(rows)

        assert (term["seconds"], term["measured_concurrent"], term["used_concurrent"]) == (0.05, 8, NODES)
        assert term["how"].startswith("extrapolated: measured at 8 ")

    def test_nsga2_breeds_from_the_generation_before(self) -> None:
        config = load_config("mnist", ("search.sampler=nsga2", f"search.trials={120 + NODES}"))
        study = Study(config, "data")
        sampler = study._study.sampler
        assert isinstance(sampler, optuna.samplers.NSGAIISampler)
        spent = scale.fill(study, 120)
        number, _ = study.ask()
        asked = study._study.get_trials()[number]

        assert spent > 0
        assert sampler.population_size == 50
        assert asked.system_attrs[sampler._get_generation_key()] == 2
        parents = sampler.get_parent_population(study._study, 2)
        assert len(parents) == 50
        # crossover and mutation leave most of a child's values as a parent had them
        values = {(name, value) for parent in parents for name, value in parent.params.items()}
        assert sum((name, value) in values for name, value in asked.params.items()) > len(asked.params) / 2

    @pytest.mark.parametrize("sampler", ["tpe", "random"])
    def test_other_samplers_have_no_parents(self, sampler: str) -> None:
        config = load_config("mnist", (f"search.sampler={sampler}",))
        study = Study(config, "data")

        assert scale.fill(study, 12) == 0
        assert len(study._study.get_trials()) == 24

    def test_times_between_measured_sizes_lie_on_a_line(self) -> None:
        value = interpolated({100: 1.0, 300: 3.0})

        assert [value(at) for at in (0, 100, 200, 300, 900)] == [1.0, 1.0, 2.0, 3.0, 3.0]


def _asks(sampler: str, members: int, ask_seconds: float) -> dict[str, Any]:
    times = {"ask_seconds": ask_seconds, "tell_seconds": 0.0, "parents_seconds": 0.0}
    return {"sampler": sampler, "storage": "ledger", "members": members, **times}


class TestGpu:
    def test_small_runs_and_runs_on_a_cpu_have_files_of_their_own(self, tmp_path: Path) -> None:
        names = [result_path(tmp_path, cuda, small).name for cuda in (True, False) for small in (False, True)]

        assert names == ["gpu.json", "gpu-small.json", "gpu-cpu.json", "gpu-cpu-small.json"]

    def test_singles_are_warmed_up_for_an_epoch_on_the_cpu_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = gpu.made_up(512)
        tiny = gpu.Scale((1,), ("float32",), 2, 1, 512, 1)
        trained: list[int] = []
        single = gpu.run_single

        def counted(data: Any, seed: int, epochs: int, device: torch.device) -> float:
            trained.append(epochs)
            return single(data, seed, epochs, device)

        monkeypatch.setattr(gpu, "run_single", counted)
        found = gpu.run_singles(data, tiny, "float32", torch.device("cpu"))

        assert trained == [1, 1, 1]
        assert len(found["accuracies"]) == found["members"] == 2

    def test_spectra_and_fronts_are_the_same_alone_and_together(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu, "WIDTHS", (784, 24, 16, 10))
        monkeypatch.setattr(gpu, "VALIDATION", 200)
        found = gpu.analyse(gpu.made_up(512), gpu.Scale((), (), 0, 1, 512, 3), torch.device("cpu"))

        assert (found["members"], found["calibration_images"], found["validation_images"]) == (3, 512, 200)
        assert found["points"] > 10
        assert found["largest_difference"]["accuracy"] <= 1 / 200  # two logits may be equal up to rounding
        assert found["largest_difference"]["loss"] < 1e-5
        for way in ("alone", "together"):
            assert all(found[way][f"{step}_seconds"] > 0 for step in ("spectra", "front"))
        assert found["times"]["front_operations"] > 10
        assert found["times"]["spectra_operations"] > 1


def test_inference_names_the_shares_of_every_thread_count() -> None:
    row = {"layer": "784x512", "rank": 20, "share": 0.71234, "plain_share": 0.5}
    other = {"layer": "3072x1024", "rank": 20, "share": 0.9, "plain_share": 0.9, "threads": 1}

    assert shares([row | {"threads": 1}, row | {"threads": 2, "share": 0.6}, other]) == {
        "layer_share_batch256": {"20": 0.712},
        "plain_share_batch256": {"20": 0.5},
        "layer_share_batch256_2_threads": {"20": 0.6},
        "plain_share_batch256_2_threads": {"20": 0.5},
    }


def test_the_plain_way_of_a_low_rank_layer_gives_the_same_numbers() -> None:
    from arsvd import LowRankLinear

    layer, x = LowRankLinear(20, 3, 10), torch.rand(64, 20)

    torch.testing.assert_close(plain_forward(layer, x), layer(x))
    assert math.isfinite(float(layer(x).detach().sum()))
