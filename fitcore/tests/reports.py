"""Reports made up for tests."""


def observation(values, limit=None, name="norm"):
    return {
        "type": "observation", "name": name, "values": values, "count": len(values), "minimum": min(values),
        "maximum": max(values), "mean": sum(values) / len(values), "unit": "m/s", "limit": limit,
    }  # fmt: skip


def comparison(limit=None, **samples):
    medians = {label: sorted(values)[len(values) // 2] for label, values in samples.items()}
    record = {"type": "comparison", "name": "held-out loss", "unit": None, "limit": limit}
    return record | {"samples": samples, "medians": medians}


def curve(x, **series):
    lines = {key: list(y) for key, y in series.items()}
    return {"type": "curve", "name": "loss", "x": list(x), "x_label": None, "series": lines}


def decision(**changes):
    plain = {
        "type": "decision", "name": "in every trial: norm ≤ 1", "rule": "always", "trials": 88, "estimate": 1.0,
        "interval": None, "threshold": 1.0, "p_value": None, "alpha": 1e-4, "fresh_seed_failure": None,
        "confirmed": True,
    }  # fmt: skip
    return plain | changes


EVIDENCE = [
    observation([0.5, 0.25], limit=1.0),
    comparison(limit=0.3, before=[0.5, 0.6, 0.7], after=[0.4]),
    curve(range(3), train=[3.0, 2.0, 1.0]),
    {"type": "figure", "name": "loss", "reported": 2.9, "measured": 2.7, "tolerance": 0.05, "reproduced": False},
    {"type": "figure", "name": "w", "reported": [5.4, 1], "measured": [5.4, 1], "tolerance": 0.05, "reproduced": True},
    {"type": "figure", "name": "a", "reported": [[[3]]], "measured": [[[2]]], "tolerance": 0.5, "reproduced": False},
    {"type": "table", "name": "rates", "columns": ["lr", "note"], "rows": [[0.1, None], [1, "diverges"]]},
    {"type": "image", "name": "digit", "png": "iVBORw0KGgo="},
    decision(),
]


def case(**changes):
    plain = {"nodeid": "test_a.py::test_a", "outcome": "passed", "duration_s": 0.1, "reason": None}
    return plain | {"evidence": EVIDENCE, "measured_on": None} | changes


def control(detected, name="no clearing", reason=None):
    return {"name": name, "detected": detected, "tests": ["test_a.py::test_a[control: x]"], "reason": reason}


def claim(name="gradients-add-up", **changes):
    plain = {
        "id": f"notes/{name}", "document": "notes", "section": "1.2", "kind": "semantics", "origin": "stated",
        "statement": "Gradients add up.", "setup": "", "highlight": False, "verdict": "holds",
        "outcome": "confirmed", "finding": None,
        "trials": 10, "duration_s": 0.1, "untestable": None, "tests": [case()], "controls": [control(True)],
        "no_control": None, "rerun": "pytest test_a.py",
    }  # fmt: skip
    return plain | changes


def pending(name, **changes):
    nothing = {"verdict": "pending", "outcome": "not-run", "tests": [], "controls": [], "trials": None, "rerun": None}
    return claim(name, **nothing, **changes)


def report(*claims, **environment):
    plain = {
        "python": "3.12.1", "platform": "Linux", "torch": "2.11", "torchvision": None, "numpy": "2.0", "device": "cpu",
        "threads": 1, "base_seed": 0, "trials_scale": 1.0, "controls": "run", "started": "2025-01-02T03:04:05+00:00",
        "duration_s": 75.0, "command": "pytest claims", "partial": False, "interrupted": False,
    }  # fmt: skip
    return {
        "schema": 2,
        "environment": plain | environment,
        "merged": [],
        "documents": [{"key": "notes", "title": "Notes", "statements": len(claims)}],
        "claims": list(claims),
    }
