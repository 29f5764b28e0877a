"""build.py DIRECTORY: has the Docker daemon build what is in DIRECTORY/context.tar with BuildKit.

It fetches that by HTTP, which needs no session with a client.
"""
import functools
import http.server
import os
import socket
import sys
import threading

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.HTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
context = f"http%3A%2F%2F127.0.0.1%3A{server.server_port}%2Fcontext.tar"
docker = socket.socket(socket.AF_UNIX)
docker.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))
request = f"POST /build?version=2&networkmode=none&remote={context}&buildid=b HTTP/1.0\r\n\r\n"
docker.sendall(request.encode())
answer = docker.makefile().read()
print(answer)
sys.exit('"moby.image.id"' not in answer)
