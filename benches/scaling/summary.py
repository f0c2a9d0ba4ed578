"""Tables of the reports that `benches/scaling/run.sh` makes: ours against plain autoscalers and the other peers.

    summary.py OUT [--ratio 20]

Of every report: violation minutes of ours at the cost ratio named, those of the best plain autoscaler at equal cost (any
target), those of the best of all other policies at equal cost, and replica-hours against the cheapest plain autoscaler with
as few violations. Fronts are straight between two knobs. A line for each start-up time sums up; the last column is the worst
of all cost ratios of ours, in violation minutes over those of the best plain autoscaler at equal cost.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path


def front(points):
    """What is reached at which cost: cost ascending, violations descending."""
    best = []
    for cost, violations in sorted(points):
        if not best or violations < best[-1][1]:
            best.append((cost, violations))
    return best


def violations_at(front_, cost):
    """Violations at `cost`, None below the cheapest."""
    below = [p for p in front_ if p[0] <= cost]
    above = [p for p in front_ if p[0] > cost]
    if not below:
        return None
    if not above:
        return below[-1][1]
    (c0, v0), (c1, v1) = below[-1], above[0]
    return v0 + (cost - c0) / (c1 - c0) * (v1 - v0)


def ratio(ours, theirs):
    """Ours over theirs; equal when there is next to nothing on either side."""
    return 1.0 if max(ours, theirs) < 1.0 else ours / max(theirs, 0.25)


def row(report, knob):
    lines = [e for e in report["equal_cost"] if e["policy"] == "bellwether"]
    ours = min(lines, key=lambda e: abs(e["knob"] - knob))
    peers = defaultdict(list)
    for p in report["policies"]:
        if p["name"] not in ("hpa", "bellwether", "oracle"):
            peers[p["name"]].append((p["replica_hours"], p["violation_minutes"]))
    at = {name: violations_at(front(points), ours["replica_hours"]) for name, points in peers.items()}
    at = {name: v for name, v in at.items() if v is not None}
    best = min(at, key=at.get) if at else None
    saved = ours["best_hpa_replica_hours"]
    return {
        "trace": report["trace"],
        "kinds": report.get("archetypes", []),
        "ours": ours["violation_minutes"],
        "hpa": ours["best_hpa_violation_minutes"],
        "peer": best,
        "peer_minutes": at.get(best),
        "saved": None if saved is None else 1 - ours["replica_hours"] / saved,
        "oracle_hours": next(p["replica_hours"] for p in report["policies"] if p["name"] == "oracle"),
        "hours": ours["replica_hours"],
        "worst": max(((ratio(e["violation_minutes"], e["best_hpa_violation_minutes"]), e["knob"]) for e in lines)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--ratio", type=float, default=20.0, help="cost ratio of ours that is shown")
    args = parser.parse_args()
    by_startup = defaultdict(list)
    for file in sorted(args.reports.glob("*.json")):
        report = json.loads(file.read_text())
        by_startup[report["startup_seconds"]].append(row(report, args.ratio))
    for startup, rows in sorted(by_startup.items()):
        print(f"\nstart-up {startup:.0f} s, cost ratio {args.ratio:g}\n")
        print("| trace | kind | ours | best hpa | best other | replica-hours saved | oracle's hours | worst ratio (at) |")
        print("|---|---|---|---|---|---|---|---|")
        for r in rows:
            other = "–" if r["peer"] is None else f"{r['peer_minutes']:.0f} {r['peer']}"
            saved = "–" if r["saved"] is None else f"{r['saved']:.0%}"
            kinds = ", ".join(r["kinds"]) or "steady"
            worst = f"{r['worst'][0]:.2f} ({r['worst'][1]:g})"
            share = r["oracle_hours"] / r["hours"]
            print(f"| {r['trace']} | {kinds} | {r['ours']:.0f} | {r['hpa']:.0f} | {other} | {saved} | {share:.0%} | {worst} |")
        for name, chosen in [("all", rows), ("periodic", [r for r in rows if "periodic" in r["kinds"]])]:
            if not chosen:
                continue
            fewer = statistics.median(1 - ratio(r["ours"], r["hpa"]) for r in chosen)
            saved = statistics.median(1.0 if r["saved"] is None else r["saved"] for r in chosen)
            total, hpa = sum(r["ours"] for r in chosen), sum(r["hpa"] for r in chosen)
            print(f"\n{name}: {len(chosen)} traces, {fewer:.0%} fewer violation minutes in the median, {total:.0f} of {hpa:.0f} in sum;"
                  f" {saved:.0%} fewer replica-hours at equal violations in the median", end="")
        print()


if __name__ == "__main__":
    main()
