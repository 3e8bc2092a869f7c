"""Capability under a plan: paired by document with no plan and with every kind of control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from personascope.api import CapabilityEvaluation
from personascope.api._capability import _record
from personascope.evals import PLAIN, Condition
from personascope.evals.harness._capability import Capability, CapabilityTask, Metric

KINDS = (("random", "isotropic"), ("shuffled", "shuffled"), ("role-span", "role_span"))


def ran(share: float, seed: int, *, failed: bool = False, documents: int = 120) -> Capability:
    right = np.random.default_rng(seed).permutation(np.arange(documents) < share * documents)
    metric = Metric("acc", "none", share, {f"d{n}": float(hit) for n, hit in enumerate(right)})
    task = CapabilityTask("basics", (metric,), metric, documents, {})
    return Capability("m", None, () if failed else (task,), {}, {}, {})


def evaluation(shares: dict[str, float], *, failed: str = "") -> CapabilityEvaluation:
    conditions = [PLAIN, Condition("cap", "plan")]
    conditions += [
        Condition(f"{name} 0 of cap", "random", None, None, 0, ("cap",), kind)  # pyright: ignore
        for name, kind in KINDS
    ]
    found = {
        c.name: ran(shares[c.name.split()[0]], number, failed=c.name.startswith(failed or "-"))
        for number, c in enumerate(conditions)
    }
    return CapabilityEvaluation(found, Path("results.json"), tuple(conditions))


def test_a_loss_is_an_effect_if_no_control_loses_as_much() -> None:
    shares = {"plain": 0.8, "cap": 0.4, "random": 0.8, "shuffled": 0.75, "role-span": 0.7}
    rows = {row.condition: row for row in evaluation(shares).rows}
    cap = rows["cap"]
    assert cap.conclusion is not None and cap.conclusion.effect
    assert list(cap.against_controls) == ["isotropic", "shuffled", "role_span"]
    assert cap.against_controls["role_span"].pooled.estimate == pytest.approx(-0.3)
    assert rows["plain"].conclusion is rows["random 0 of cap"].conclusion is None
    same = evaluation({**shares, "role-span": 0.4})
    (words,) = [row.conclusion.words for row in same.rows if row.conclusion is not None]
    assert words == "no effect beyond role-span controls"
    record = _record(same)
    assert record["cap"]["tasks"]["basics"]["conclusion"]["unbeaten"] == ["role_span"]
    assert "conclusion" not in record["plain"]["tasks"]["basics"]


def test_a_control_whose_task_failed_is_not_compared_and_named() -> None:
    shares = {"plain": 0.8, "cap": 0.4, "random": 0.8, "shuffled": 0.75, "role-span": 0.7}
    found = evaluation(shares, failed="shuffled")
    (cap,) = [row for row in found.rows if row.condition == "cap"]
    assert cap.conclusion is not None and not cap.conclusion.effect
    assert cap.conclusion.missing == ("shuffled",)
    assert cap.conclusion.words.endswith("isotropic and role-span controls, shuffled not compared")
