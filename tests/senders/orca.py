"""Clients of load reports.

`orca.py reports ADDRESS`: each line of standard input, `{"authority": …, "interval": seconds, "count": n}`, opens a stream
(generated from its definition), and a line of standard output says the `n` reports read, how long they took, or the error.

`orca.py balance`: two servers that count their calls; the first line of output has their ports. The first line of input has
the two addresses at which a client of gRPC's own `weighted_round_robin` finds them and, on the same connections, their load
reports. Each further line is a number of calls, and is answered with how many each server served.
"""

import concurrent.futures
import importlib
import json
import pathlib
import sys
import tempfile
import time

import grpc
from google.protobuf.json_format import MessageToDict


def generated():
    from grpc_tools import protoc

    here = pathlib.Path(__file__).parent
    wellknown = pathlib.Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as made:
        arguments = ["protoc", f"-I{here}", f"-I{wellknown}", f"--python_out={made}", f"--grpc_python_out={made}"]
        if protoc.main([*arguments, "orca_load_report.proto", "orca.proto"]) != 0:
            sys.exit("the definition is wrong")
        sys.path.insert(0, made)
        return importlib.import_module("orca_pb2"), importlib.import_module("orca_pb2_grpc")


def say(answer):
    print(json.dumps(answer), flush=True)


def reports(address):
    messages, service = generated()
    open_streams = []  # a stream that nobody holds is ended
    for line in sys.stdin:
        asked = json.loads(line)
        channel = grpc.insecure_channel(address, options=[("grpc.default_authority", asked["authority"])])
        request = messages.OrcaLoadReportRequest()
        request.report_interval.FromNanoseconds(int(asked["interval"] * 1e9))
        began = time.monotonic()
        try:
            stream = service.OpenRcaServiceStub(channel).StreamCoreMetrics(request, timeout=asked.get("timeout", 60))
            told = [MessageToDict(next(stream)) for _ in range(asked["count"])]
            open_streams.append((channel, stream))
            say({"reports": told, "seconds": time.monotonic() - began})
        except grpc.RpcError as error:
            say({"code": error.code().name, "text": error.details()})


def balance():
    served = [0, 0]

    def server(index):
        def serve(request, context):
            served[index] += 1
            return request

        handler = grpc.method_handlers_generic_handler("shop.Shop", {"Buy": grpc.unary_unary_rpc_method_handler(serve)})
        made = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        made.add_generic_rpc_handlers((handler,))
        port = made.add_insecure_port("127.0.0.1:0")
        made.start()
        return made, port

    servers = [server(0), server(1)]
    say([port for _, port in servers])
    policy = {
        "enableOobLoadReport": True,
        "oobReportingPeriod": "0.1s",
        "blackoutPeriod": "0s",
        "weightUpdatePeriod": "0.1s",
    }
    channel = grpc.insecure_channel(
        "ipv4:" + ",".join(json.loads(sys.stdin.readline())),
        options=[
            ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"weighted_round_robin": policy}]})),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.default_authority", "shop"),  # as with the one name of a service; two addresses make no host
        ],
    )
    buy = channel.unary_unary("/shop.Shop/Buy")
    for line in sys.stdin:
        before = list(served)
        for _ in range(json.loads(line)):
            buy(b"one", timeout=30, wait_for_ready=True)
        say([now - then for now, then in zip(served, before)])


if sys.argv[1] == "reports":
    reports(sys.argv[2])
else:
    balance()
