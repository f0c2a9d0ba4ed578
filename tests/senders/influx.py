"""Writes points with the official InfluxDB 2 client: `influx.py URL`."""

import sys

from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

with InfluxDBClient(url=sys.argv[1], token="any", org="any", enable_gzip=True) as client:
    if not client.ping():
        sys.exit("no answer to ping")
    writer = client.write_api(write_options=SYNCHRONOUS)
    point = Point("checkout desk").tag("zone,1", "eu west").field("requests", 1520).field("busy", 0.71)
    point = point.field("ok", True).field("note", 'said "no", = yes').time(1_700_000_000_123, WritePrecision.MS)
    writer.write(bucket="any", record=point)
    try:
        writer.write(bucket="any", record=["good f=1 1700000000000000000", "bad", "good f=2 1700000001000000000"])
    except ApiException as error:
        print(error.status, error.message)
    else:
        sys.exit("a bad line was not refused")
