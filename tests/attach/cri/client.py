# A client of a container runtime's gRPC socket: reads lines of method and request in hex, prints "+" and the response,
# or "-" and what went wrong.
import sys
import grpc

# A runtime that has been restarted is found again soon.
options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
channel = grpc.insecure_channel("unix:" + sys.argv[1], options)
for line in sys.stdin:
    method, request = line.rstrip("\n").split(" ")
    call = channel.unary_unary("/runtime.v1." + method)
    try:
        response = call(bytes.fromhex(request), timeout=float(sys.argv[2]), wait_for_ready=True)
        print("+" + response.hex(), flush=True)
    except grpc.RpcError as error:
        print("-" + " ".join((error.details() or repr(error)).split()), flush=True)
