"""A client of KEDA's external scaler, generated from its definition: `keda.py ADDRESS [CA CERT KEY]`.

Each line of standard input is one call, `{"call": …, "name": …, "metadata": {…}, "metric": …}`; each line of standard
output is its answer, or one message of a stream that was opened.
"""

import json
import pathlib
import sys
import tempfile
import threading

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_tools import protoc

here = pathlib.Path(__file__).parent
with tempfile.TemporaryDirectory() as made:
    arguments = ["protoc", f"-I{here}", f"--python_out={made}", f"--grpc_python_out={made}", "externalscaler.proto"]
    if protoc.main(arguments) != 0:
        sys.exit("the definition is wrong")
    sys.path.insert(0, made)
    import externalscaler_pb2 as messages
    import externalscaler_pb2_grpc as service

address, *tls = sys.argv[1:]
if tls:
    ca, cert, key = (pathlib.Path(path).read_bytes() for path in tls)
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert))
else:
    channel = grpc.insecure_channel(address)
stub = service.ExternalScalerStub(channel)
lock = threading.Lock()


def say(answer):
    with lock:
        print(json.dumps(answer), flush=True)


def told(message):
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def follow(name, stream):
    try:
        for message in stream:
            say({"stream": name, "message": told(message)})
        say({"stream": name, "code": "OK"})
    except grpc.RpcError as error:
        say({"stream": name, "code": error.code().name, "text": error.details()})


for line in sys.stdin:
    asked = json.loads(line)
    reference = messages.ScaledObjectRef(
        name=asked.get("name", ""), namespace="shop", scalerMetadata=asked.get("metadata", {})
    )
    call = getattr(stub, asked["call"])
    if asked["call"].startswith("Stream"):
        threading.Thread(target=follow, args=(asked["call"], call(reference)), daemon=True).start()
        continue
    request = reference
    if asked["call"] == "GetMetrics":
        request = messages.GetMetricsRequest(scaledObjectRef=reference, metricName=asked.get("metric", ""))
    try:
        say({"ok": told(call(request, timeout=30))})
    except grpc.RpcError as error:
        say({"code": error.code().name, "text": error.details()})
