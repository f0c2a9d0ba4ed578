"""Feeds a server with the demo's load, a recorded minute in every second: first what is past, then on and on.

feed.py URL prints "fed" when the past is there. Influx line protocol, as any agent would send it.
"""

import csv
import gzip
import sys
import time
import urllib.request
from pathlib import Path

DEMAND = Path(__file__).parents[1] / "demo/data/demand.csv.gz"
LIVE = 1440  # recorded minutes kept for what comes after the start
LINES = 5000  # of one request


def send(url: str, rows: list[tuple[int, float]]) -> None:
    body = "".join(f"http,service=shop requests={value} {at}\n" for at, value in rows)
    urllib.request.urlopen(f"{url}/write?precision=s", data=body.encode(), timeout=60).close()


def feed(url: str) -> None:
    with gzip.open(DEMAND, "rt") as file:
        values = [float(row["value"]) for row in csv.DictReader(file)]
    past, to_come = values[:-LIVE], values[-LIVE:]
    now = int(time.time())
    rows = [(now - len(past) + second, value) for second, value in enumerate(past)]
    for start in range(0, len(rows), LINES):
        send(url, rows[start : start + LINES])
    print("fed", flush=True)
    for second, value in enumerate(to_come):
        time.sleep(max(0.0, now + second - time.time()))
        send(url, [(now + second, value)])


if __name__ == "__main__":
    feed(sys.argv[1])
