"""The stage plan: percent, ETA and time limits of a job, with answers known by hand."""

import pytest

from worker.attempt.stage_plan import StagePlan


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock, spent_s: float = 0.0) -> StagePlan:
    """Loading 10 s, judging 20 s, and training with what 100 s leave."""
    stages = {"loading": 10.0, "training": None, "judging": 20.0}
    return StagePlan(stages, 100.0, spent_s, clock)


def test_a_stage_without_an_allotment_has_what_the_others_leave(clock: Clock) -> None:
    plan = opened(clock)
    assert (plan.remaining_s, plan.percent) == (100, 0)
    assert plan.seconds_for("training") == 70
    assert plan.seconds_for("loading") == 10
    plan.begin("loading")
    clock.now += 4
    assert (plan.remaining_s, plan.percent) == (96, 4)
    plan.begin("training")  # loading took 6 s less than planned
    assert plan.seconds_for("training") == 76


def test_two_stages_share_what_is_left(clock: Clock) -> None:
    stages = {"searching": None, "retraining": None, "judging": 20.0}
    plan = StagePlan(stages, 100.0, clock=clock)
    plan.begin("searching")
    assert plan.seconds_for("searching") == 40
    clock.now += 20
    plan.advance(0.5)
    assert plan.remaining_s == 80  # 20 at this pace, 40 for the other one, 20
    plan.begin("retraining")
    assert plan.seconds_for("retraining") == 60


def test_the_pace_of_a_stage_counts_more_than_its_allotment(clock: Clock) -> None:
    plan = opened(clock)
    plan.begin("loading")
    clock.now += 6
    plan.advance(0.01)  # too early to tell
    assert plan.seconds_for("training") == 100 - 6 - 4 - 20
    plan.advance(0.2)
    assert plan.seconds_for("training") == 100 - 6 - 24 - 20
    plan.begin("training")
    clock.now += 2
    plan.advance(0.5)  # it ends by its images, long before the time
    assert plan.remaining_s == 2 + 20
    assert plan.percent == pytest.approx(100 * 8 / 30, abs=0.01)


def test_what_an_earlier_attempt_has_done_is_not_this_ones_pace(clock: Clock) -> None:
    plan = opened(clock, spent_s=40)
    assert plan.percent == 40
    plan.begin("training", done=0.5)
    assert plan.seconds_for("training") == 40
    clock.now += 5
    plan.advance(0.6)
    assert plan.remaining_s == pytest.approx(20 + 20)  # 0.1 in 5 s, 0.4 are left


def test_the_last_stages_may_use_all_that_is_left(clock: Clock) -> None:
    plan = opened(clock)
    plan.begin("training")
    clock.now += 30
    plan.begin("judging")
    assert plan.seconds_for("judging") == 70


def test_more_is_known_later(clock: Clock) -> None:
    plan = opened(clock)
    plan.allot("judging", 5)
    assert plan.seconds_for("training") == 85


def test_a_job_out_of_time_is_not_done_and_has_an_eta(clock: Clock) -> None:
    plan = opened(clock)
    plan.begin("judging")
    clock.now += 110
    plan.advance(0.99)
    assert plan.seconds_for("judging") == 0
    assert plan.remaining_s == pytest.approx(110 / 99)
    assert plan.percent < 100
    clock.now += 1e6
    plan.advance(1.0)
    assert plan.percent == 99.9


def test_the_eta_never_exceeds_the_budget(clock: Clock) -> None:
    plan = opened(clock)
    plan.begin("loading")
    clock.now += 5
    plan.advance(0.02)  # the pace of a cold start: 245 s to go
    assert plan.remaining_s == 95


def test_a_job_without_a_plan_has_no_eta(clock: Clock) -> None:
    plan = StagePlan(clock=clock)
    plan.begin("generating")
    clock.now += 5
    plan.advance(0.5)
    assert plan.remaining_s == 5
