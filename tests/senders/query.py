"""Asks a server of InfluxDB 2 with the official client and prints each answer as JSON: `query.py URL TOKEN ORG QUERY...`."""

import json
import sys

from influxdb_client import InfluxDBClient

url, token, org, *queries = sys.argv[1:]


def row(values):
    values = {name: value for name, value in values.items() if value is not None}
    tags = {name: value for name, value in values.items() if name[0] != "_" and name not in ("result", "table")}
    millis = round(values["_time"].timestamp() * 1000)
    return [values["_measurement"], tags, values["_field"], millis, values["_value"]]


with InfluxDBClient(url=url, token=token, org=org) as client:
    for query in queries:
        try:
            records = client.query_api().query_stream(query)
            print(json.dumps([row(record.values) for record in records], sort_keys=True))
        except Exception as error:  # every kind of failure counts alike
            print(json.dumps("failed"))
            print(type(error).__name__, error, file=sys.stderr)
