// The official InfluxDB 2 client of JavaScript: `influx.mjs write URL` writes points, `influx.mjs query URL TOKEN ORG
// QUERY...` prints each answer as JSON.
import { createRequire } from "node:module";

const { InfluxDB, Point } = createRequire(process.env.BELLWETHER_TEST_NODE_MODULES + "/")("@influxdata/influxdb-client");

const [what, url, token = "any", org = "any", ...queries] = process.argv.slice(2);
const client = new InfluxDB({ url, token });

/** Keys in order, so that equal rows are equal texts. */
const sorted = (object) => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));

/** This client hands the table of an error over as a row like any other. */
function row(values) {
  if ("error" in values && "reference" in values) throw new Error(values.error);
  const isTag = ([name, value]) => name[0] !== "_" && name !== "result" && name !== "table" && value !== "";
  const tags = sorted(Object.fromEntries(Object.entries(values).filter(isTag)));
  return [values._measurement, tags, values._field, Date.parse(values._time), values._value];
}

async function write() {
  const options = { gzipThreshold: 1, maxRetries: 0 };
  const good = client.getWriteApi("any", "any", "ms", options);
  const point = new Point("checkout desk").tag("zone,1", "eu west").intField("requests", 1520).floatField("busy", 0.71);
  good.writePoint(point.booleanField("ok", true).stringField("note", 'said "no", = yes').timestamp(1700000000123));
  await good.close();
  const bad = client.getWriteApi("any", "any", "ns", options);
  bad.writeRecords(["good f=1 1700000000000000000", "bad", "good f=2 1700000001000000000"]);
  try {
    await bad.close();
  } catch (error) {
    console.log(error.statusCode, error.body);
    return;
  }
  throw new Error("a bad line was not refused");
}

async function query() {
  for (const text of queries) {
    try {
      const rows = await client.getQueryApi(org).collectRows(text);
      console.log(JSON.stringify(rows.map(row)));
    } catch (error) {
      console.log(JSON.stringify("failed"));
      console.error(String(error));
    }
  }
}

await (what === "write" ? write() : query());
