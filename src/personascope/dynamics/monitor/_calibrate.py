"""Calibrate a monitor on a run of conversations, and evaluate an alarm rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from personascope.dynamics._conversation import Dialogue, DriftRun
from personascope.dynamics.monitor._baseline import (
    LEAST,
    Level,
    MonitorBaseline,
    Positions,
    check_level,
    replies_of,
)
from personascope.dynamics.monitor._events import MonitorSource, OnAlarm
from personascope.dynamics.monitor._monitor import Monitor
from personascope.dynamics.monitor._rules import Cusum, Rule, Threshold, first_alarm
from personascope.errors import DynamicsError
from personascope.stats import Interval, json_values, share_interval

ASSISTANT_LIKE = ("coding", "writing")
"""Domains whose conversations stay near the Assistant (section 4 of the paper)."""

SHARES = (0.25, 0.5, 0.25)
"""Shares of conversations that fit the baseline, set the threshold, and are held out."""


@dataclass(frozen=True, slots=True)
class MonitorEvaluation:
    """Performance of a rule on conversations that it was not calibrated on.

    Attributes:
        level: Unit of the delays: "turn" or "token".
        horizon: Number of values read per conversation; None for all.
        false_alarms: Share of Assistant-like conversations with an alarm, with Wilson's interval.
        early: Share of switched conversations with an alarm before the switch.
        detected: Share of the other switched conversations with an alarm after the switch.
        delay: Lower quartile, median and upper quartile of the delay: the number of values from the switch to
            the alarm, 1 if the first value after the switch raises it. A conversation without an alarm counts
            as infinite, so that a rule gains nothing by missing hard ones.
        delays: Delay of each switched conversation; None for an early alarm, infinite for none, NaN for a
            switch beyond the horizon.
        beyond: Number of switched conversations left out because they switch beyond the horizon.
    """

    level: Level
    horizon: int | None
    false_alarms: Interval
    early: Interval
    detected: Interval
    delay: tuple[float, float, float]
    delays: tuple[float | None, ...]
    beyond: int = 0


def evaluate_monitor(
    rule: Rule,
    assistant_like: Sequence[Positions],
    switched: Sequence[tuple[Positions, int]] = (),
    *,
    horizon: int | None = None,
) -> MonitorEvaluation:
    """Measure a rule's false-alarm rate and detection delay.

    Args:
        rule: Rule that was calibrated on other conversations than these.
        assistant_like: Conversations in which any alarm is false.
        switched: Conversations that leave the Assistant at a known point, each with the index of the first
            reply after the switch, from 0. Delays count from that reply's first value.
        horizon: Number of values to read per conversation; by default the calibration's horizon, beyond which
            no false-alarm rate is guaranteed.

    Raises:
        DynamicsError: If a switch lies outside its conversation.
    """
    if horizon is None and rule.calibration is not None:
        horizon = rule.calibration.horizon
    false = [first_alarm(rule, one, horizon) is not None for one in assistant_like]
    delays: list[float | None] = []
    for number, (positions, reply) in enumerate(switched):
        lengths = [len(one) for one in replies_of(positions, rule.level, f"switched conversation {number}")]
        before = sum(lengths[: max(reply, 0)])
        if not 0 <= reply < len(lengths) or before >= sum(lengths):
            raise DynamicsError(
                f"switched conversation {number} switches at reply {reply}, and has {len(lengths)} replies, "
                f"{sum(lengths)} {rule.level}s",
                hint="give the number, from 0, of the first reply under the switch",
            )
        if horizon is not None and before >= horizon:
            delays.append(math.nan)
            continue
        at = first_alarm(rule, positions, horizon)
        delays.append(math.inf if at is None else None if at <= before else at - before)
    counted = [delay for delay in delays if delay is None or delay == delay]
    late = [delay for delay in counted if delay is not None]
    quartiles = np.quantile(late, (0.25, 0.5, 0.75), method="inverted_cdf") if late else [math.nan] * 3
    low, middle, high = map(float, quartiles)
    return MonitorEvaluation(
        rule.level,
        horizon,
        share_interval(false),
        share_interval([delay is None for delay in counted]),
        share_interval([math.isfinite(delay) for delay in late]),
        (low, middle, high),
        tuple(delays),
        len(delays) - len(counted),
    )


@dataclass(frozen=True, slots=True)
class MonitorReport:
    """A monitor's calibration data, and its performance on held-out dialogues.

    Attributes:
        domains: Domains that were treated as Assistant-like.
        fit: Ids of the dialogues that the baseline was fitted on.
        calibration: Ids of the dialogues that set the thresholds.
        held_out: Ids of the dialogues used for neither.
        left_out: Id of each unused dialogue of these domains -> why it was not used.
        rules: Rule name ("cusum", "threshold") -> the rule. Both are calibrated on the same dialogues to the
            same rate; the threshold does not use the baseline.
        evaluations: Rule name -> its false alarms on the held-out dialogues, and its delays in the run's
            dialogues that switch at a known turn, if there are any.
        others: Rule name -> domain -> share of the dialogues of each other domain that raise an alarm.
    """

    domains: tuple[str, ...]
    fit: tuple[str, ...]
    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    left_out: Mapping[str, str]
    rules: Mapping[str, Rule]
    evaluations: Mapping[str, MonitorEvaluation]
    others: Mapping[str, Mapping[str, Interval]]

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values; of each rule, its threshold and calibration."""
        return {
            "domains": list(self.domains),
            "fit": list(self.fit),
            "calibration": list(self.calibration),
            "held_out": list(self.held_out),
            "left_out": dict(self.left_out),
            "rules": {
                name: {
                    "threshold": rule.threshold,
                    "calibration": asdict(rule.calibration),
                    "rate_range": list(rule.calibration.rate_range()),
                }
                for name, rule in self.rules.items()
                if rule.calibration is not None
            },
            "false_alarms": {
                name: json_values(asdict(one.false_alarms)) for name, one in self.evaluations.items()
            },
            "others": {
                name: {domain: json_values(asdict(share)) for domain, share in shares.items()}
                for name, shares in self.others.items()
            },
        }


def positions_of(run: DriftRun, dialogue: Dialogue, level: Level, layer: int | None = None) -> Positions:
    """Return a dialogue's positions in units of the map, as a monitor of the given level reads them.

    Raises:
        DynamicsError: If the level is "token" and the layer is not the run's.
    """
    check_level(level)
    if level == "turn":
        return run.positions(dialogue, layer)
    if layer not in (None, run.layer):
        raise DynamicsError(
            f"the run keeps the projections of tokens at layer {run.layer}, not at layer {layer}",
            hint=f"calibrate at layer {run.layer}, or watch turns",
        )
    return [run.to_units(np.asarray(one.tokens, float)) for one in dialogue.turns]


def calibrate_monitor(
    run: DriftRun,
    *,
    domains: Sequence[str] = ASSISTANT_LIKE,
    level: Level = "turn",
    rule: Literal["cusum", "threshold"] = "cusum",
    false_alarms: float = 0.05,
    seed: int = 0,
    layer: int | None = None,
    shares: tuple[float, float, float] = SHARES,
    allowance: float | None = None,
    warmup: int | None = None,
    window: int | None = None,
    horizon: int | None = None,
    source: MonitorSource | None = None,
    on_alarm: OnAlarm = None,
) -> tuple[Monitor, MonitorReport]:
    """Calibrate a monitor on the Assistant-like dialogues of a run, and report its performance.

    The dialogues are split at random, by the seed and their ids alone. The first part fits the baseline, the
    second sets the threshold, and the third is held out for the report.

    Args:
        run: Simulated conversations, made without a plan and without a monitor that acts.
        domains: Domains that stay near the Assistant.
        level: "turn" or "token".
        rule: Rule of the returned monitor, "cusum" or "threshold". The report covers both.
        false_alarms: Target share of Assistant-like conversations that raise an alarm.
        seed: Random seed of the split.
        layer: Layer of the positions; the run's by default, and the only choice for tokens.
        shares: Shares of the dialogues that fit the baseline, set the threshold, and are held out.
        allowance: See `Cusum.calibrated`.
        warmup: See `MonitorBaseline.fit`.
        window: See `Threshold.calibrated`.
        horizon: Number of values within which the rate must hold; by default the longest calibration
            dialogue.
        source: Model and map; by default those that the run's manifest names.
        on_alarm: Action of the monitor at an alarm.

    Raises:
        DynamicsError: If these domains have too few finished dialogues for the rate, or some of their
            dialogues were made under a plan or a monitor that acts.
    """
    check_level(level)
    if rule not in ("cusum", "threshold"):
        raise DynamicsError(f"{rule!r} is no alarm rule", hint="give cusum or threshold")
    if min(shares) < 0 or not math.isclose(sum(shares), 1.0):
        raise DynamicsError(
            f"the parts {shares} are not shares of a whole", hint="give three that add up to 1"
        )
    usable, left_out = _usable(run, domains)
    if not usable:
        there = ", ".join(sorted({dialogue.domain for dialogue in run.dialogues})) or "none"
        why = "".join(f"; {one}: {reason}" for one, reason in list(left_out.items())[:1])
        raise DynamicsError(
            f"{run.path} holds no dialogue to calibrate on of the domains {', '.join(domains)} "
            f"(it has {there}{why})",
            hint="name the domains that stay with the Assistant, or finish the run",
        )
    fit, calibration, held_out = _split(sorted(one.id for one in usable), shares, seed)
    _check_fit(len(usable), len(fit), shares)
    found = {one.id: positions_of(run, one, level, layer) for one in usable}
    baseline = MonitorBaseline.fit([found[one] for one in fit], level, warmup=warmup)
    setting = [found[one] for one in calibration]
    _check_number(len(usable), len(calibration), false_alarms)
    rules: dict[str, Rule] = {
        "cusum": Cusum.calibrated(
            baseline, setting, false_alarms=false_alarms, allowance=allowance, horizon=horizon
        ),
        "threshold": Threshold.calibrated(
            setting, level, false_alarms=false_alarms, window=window, horizon=horizon
        ),
    }
    drifting, _ = _usable(run, sorted({one.domain for one in run.dialogues} - set(domains)))
    others: dict[str, list[Positions]] = {}
    for one in drifting:
        others.setdefault(one.domain, []).append(positions_of(run, one, level, layer))
    switched = switched_of(run, level, layer)
    at = run.layer if layer is None else layer
    monitor = Monitor(
        rules[rule],
        layer=at,
        units=(float(run.mean_role_projection[at]), float(run.default_projection[at])),
        source=source_of(run) if source is None else source,
        on_alarm=on_alarm,
    )
    report = MonitorReport(
        tuple(domains),
        fit,
        calibration,
        held_out,
        left_out,
        rules,
        {
            name: evaluate_monitor(one, [found[id] for id in held_out], switched)
            for name, one in rules.items()
        },
        {
            name: {domain: evaluate_monitor(one, some).false_alarms for domain, some in others.items()}
            for name, one in rules.items()
        },
    )
    return monitor, report


def source_of(run: DriftRun) -> MonitorSource | None:
    """Return the model and map that a run was made with; None if its manifest does not name a model."""
    identity = run.manifest.get("identity", {})
    model = identity.get("model")
    if not isinstance(model, Mapping):
        return None
    day = str(run.manifest.get("notes", {}).get("chat_date", ""))
    return MonitorSource(str(model["id"]), str(model["revision"]), str(identity.get("map", "")), day)


def switched_of(run: DriftRun, level: Level, layer: int | None = None) -> list[tuple[Positions, int]]:
    """Return the finished dialogues that switch at a known turn, in the form of `evaluate_monitor`.

    Raises:
        DynamicsError: If the level is "token" and the layer is not the run's.
    """
    return [
        (positions_of(run, one, level, layer), one.switch)
        for one in run.dialogues
        if one.ended is not None and one.switch is not None and len(one.turns) > one.switch
    ]


def _check_fit(given: int, fit: int, shares: tuple[float, float, float]) -> None:
    """Refuse a split that leaves too few conversations for mean and spread.

    Raises:
        DynamicsError: If too few conversations are left to fit the baseline.
    """
    if fit < LEAST:
        parts = "/".join(f"{share:.0%}" for share in shares)
        hint = "give a larger share to the fit"
        if shares[0] > 0:
            hint = f"give {math.ceil(LEAST / shares[0])} or more, or {hint}"
        raise DynamicsError(
            f"{given} Assistant-like conversations were given; split {parts} they leave {fit} to fit mean "
            f"and spread, which needs {LEAST}",
            hint=f"{hint} (--shares)",
        )


def _check_number(given: int, setting: int, false_alarms: float) -> None:
    """Refuse a rate that the conversations cannot show, by the number that was given.

    Raises:
        DynamicsError: If too few conversations are left to set the threshold.
    """
    least = math.ceil(1 / false_alarms - 1e-9) - 1 if 0 < false_alarms < 1 else 0
    if setting < least:
        raise DynamicsError(
            f"{given} Assistant-like conversations were given; {setting} of them set the threshold (the "
            f"others fit the baseline and test it), and {setting} calibration conversations cannot show a "
            f"false-alarm rate of {false_alarms:g}",
            hint=f"give {math.ceil(least * given / max(setting, 1))} or more (simulate --conversations N "
            "makes N of each domain), or allow a higher rate",
        )


def _usable(run: DriftRun, domains: Sequence[str]) -> tuple[list[Dialogue], dict[str, str]]:
    """Return the usable finished dialogues of some domains, and why the others were left out.

    Raises:
        DynamicsError: If some were made under a plan, or a monitor acted on them.
    """
    usable: list[Dialogue] = []
    left_out: dict[str, str] = {}
    acted = [one.id for one in run.dialogues if one.domain in domains and _acted(one)]
    if acted:
        # Leaving only these out would keep the calm dialogues, and set the threshold too low.
        raise DynamicsError(
            f"{len(acted)} dialogues of {run.path}, such as {acted[0]}, were made under a plan or ended by a "
            "monitor",
            hint="calibrate on a run without a plan, and without a monitor that acts",
        )
    for dialogue in run.dialogues:
        if dialogue.domain not in domains:
            continue
        if dialogue.switch is not None:
            left_out[dialogue.id] = f"switches at turn {dialogue.switch}"
        elif dialogue.ended is None:
            left_out[dialogue.id] = dialogue.problem or "not finished"
        elif not any(one.token_count for one in dialogue.turns):
            left_out[dialogue.id] = "no reply"
        else:
            usable.append(dialogue)
    return usable, left_out


def _acted(dialogue: Dialogue) -> bool:
    return dialogue.ended == "alarm" or any(
        one.plan is not None or one.plan_tokens or one.finish_reason == "alarm" for one in dialogue.turns
    )


def _split(
    ids: list[str], shares: tuple[float, float, float], seed: int
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    order = [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))]
    first = round(shares[0] * len(ids))
    # The remainder of the rounding goes to the threshold, which needs the most dialogues.
    last = len(ids) - int(shares[2] * len(ids))
    return tuple(order[:first]), tuple(order[first:last]), tuple(order[last:])
