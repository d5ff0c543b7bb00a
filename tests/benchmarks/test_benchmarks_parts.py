"""The parts of the benchmarks that compute figures from measurements."""

import math

import pytest
import torch

from benchmarks.inference import plain_forward
from benchmarks.injection import paired
from benchmarks.naive import REFERENCE, parts, seconds_a_trial, time_to, with_hypervolume
from benchmarks.naive_sweep import accuracy, build, in_memory, truncate
from benchmarks.overhead import idle_seconds
from benchmarks.processes import ProcessWatch
from benchmarks.scale_simulation import MEAN_SECONDS, NODES, interpolated, simulate


class TestOverhead:
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

    def test_a_trial_takes_its_share_while_all_cores_have_one(self) -> None:
        entries = [{"time": seconds} for seconds in (10.0, 11.0, 20.0, 21.0, 40.0)]

        assert seconds_a_trial(entries, cores=2) == pytest.approx(21.0 / 4)
        assert seconds_a_trial(entries[:1], cores=2) == 10.0

    def test_steps_are_compared_with_the_plain_script(self) -> None:
        plain = [{"time": 50.0, "hypervolume": 0.3}, {"time": 100.0, "hypervolume": 0.5}]
        reuse = [{"time": 20.0, "hypervolume": 0.1}, {"time": 40.0, "hypervolume": 0.1}]
        own = [{"time": 5.0, "hypervolume": 0.9, "weight_hypervolume": 0.4}]
        rows = parts({"plain": plain, "reuse": reuse}, own, cores=1)

        assert {row["step"]: row["times_faster"] for row in rows} == {
            "plain": 1.0,
            "reuse": pytest.approx(100 / 40),
            "thresholds": None,
            "sweep": pytest.approx(20.0),
        }

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


class TestInjection:
    def test_equal_differences_have_no_spread(self) -> None:
        assert paired([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)

    def test_the_interval_holds_the_mean(self) -> None:
        mean, low, high = paired([-1.0, 0.0, 1.0, 4.0])

        assert low < mean == 1.0 < high


class TestScale:
    def test_an_idle_driver_lets_the_nodes_train_all_the_time(self) -> None:
        found = simulate(lambda _: 0.0, members=20_000)

        assert found["rate"] == pytest.approx(NODES / MEAN_SECONDS, rel=0.05)
        assert found["busy_share"] > 0.95

    def test_a_slow_driver_sets_the_rate(self) -> None:
        found = simulate(lambda _: 2.0, members=2000)

        assert found["rate"] == pytest.approx(0.5, rel=0.05)
        assert found["busy_share"] == pytest.approx(0.5 * MEAN_SECONDS / NODES, rel=0.1)

    def test_times_between_measured_sizes_lie_on_a_line(self) -> None:
        value = interpolated({100: 1.0, 300: 3.0})

        assert [value(at) for at in (0, 100, 200, 300, 900)] == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_the_plain_way_of_a_low_rank_layer_gives_the_same_numbers() -> None:
    from arsvd import LowRankLinear

    layer, x = LowRankLinear(20, 3, 10), torch.rand(64, 20)

    torch.testing.assert_close(plain_forward(layer, x), layer(x))
    assert math.isfinite(float(layer(x).detach().sum()))
