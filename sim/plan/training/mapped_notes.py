"""What a plan's report says of how nodes were placed on a cluster whose links are unequal."""

from __future__ import annotations

from sim.plan.training.evaluator import Grade

SHOWN = 32  # nodes of an order, at most, in a sentence


def mapped_notes(winner: Grade) -> list[str]:
    """Who placed the nodes of the answer, what it gained, and how a launcher is told; nothing where links are alike."""
    mapping = winner.mapping
    if mapping is None:
        return []
    proved = ", proved the best order for Pipette's closed form" if mapping.optimal else ""
    if mapping.order == tuple(range(len(mapping.order))):
        return [f"links are unequal: no order of nodes was found that is better than their own ({mapping.by}{proved})"]
    gain = winner.own_order_s / winner.step_s - 1.0
    shown = ", ".join(map(str, mapping.order[:SHOWN])) + (", ..." if len(mapping.order) > SHOWN else "")
    return [
        f"links are unequal: {mapping.by} placed the nodes of the answer{proved}; in their own order the step takes"
        f" {gain:.2%} longer, and sends and rings {1 / (1 - mapping.gain_fraction) - 1:.1%}",
        f"start the ranks on the nodes in this order (host file): {shown}",
        "plans were ranked with their nodes placed; those that are left out are slower even over links as fast as the"
        " fastest",
    ]
