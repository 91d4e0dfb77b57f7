"""A plan of a row as plan.json has it."""

PAIR = [0.001, 0.002]
TRIED = {
    "policy": "polca", "servers": 44, "oversubscription": 0.1, "seeds": 2, "safe": True, "breaks": [], "refused": "",
    "seeds_that_break": 0, "hours": 1.0, "peak_fraction": [0.9, 0.95], "peak_fraction_without_limit": [0.9, 1.1],
    "breaker_trips": 0.0, "brakes": 0.0, "over_limit_s": 0.0, "low_priority_locked_s": 1.0,
    "high_priority_locked_s": 0.0, "high_p50": PAIR, "high_p99": PAIR, "low_p50": PAIR, "low_p99": [0.1, 0.3],
}  # fmt: skip
OVER = TRIED | {"servers": 45, "oversubscription": 0.125, "safe": False, "breaks": ["low_p99"], "low_p99": [0.4, 0.6]}
FOUND = {
    "question": "oversubscription", "name": "a <row>", "found": True, "policy": "polca", "limit_w": 260_000.0,
    "built_for": 40, "servers": 44, "oversubscription": 0.1, "bounded": True,
    "binding": {"servers": 45, "criteria": ["low_p99"], "reached": {"low_p99": 0.6}, "refused": ""},
    "criteria": {"brakes_per_h": 0.0, "over_limit_s_per_h": None, "high_p50": 0.0, "high_p99": 0.05, "low_p50": 0.05,
                 "low_p99": 0.5},
    "seeds": [1, 2], "confirmation": [TRIED],
    "sure": {"confidence": 0.95, "fresh": True, "runs": 2, "hours": 1.0, "brakes": 0, "most_brakes_per_h": 3.0,
             "bad_runs": 0, "most_bad_share": 0.78, "runs_for_few": 59, "few": 0.05},
    "policies": [
        {"policy": "polca", "servers": 44, "oversubscription": 0.1, "next": 45, "breaks": ["low_p99"], "refused": ""},
        {"policy": "brake_only", "servers": None, "oversubscription": None, "next": None, "breaks": [],
         "refused": "<no>"},
    ],
    "rows": [TRIED, OVER], "simulations": 8, "notes": ["a <note>"],
}  # fmt: skip
