"""A stand-in for a model server: `python talker.py PORT right|half` answers sums, always or for even first numbers."""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

PORT, KIND = int(sys.argv[1]), sys.argv[2]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][-1]["content"]
        a, b = (int(one) for one in re.findall(r"\d+", asked))
        total = a + b if KIND == "right" or a % 2 == 0 else a + b + 1
        body = {"choices": [{"message": {"content": f"The answer is {total}."}, "finish_reason": "stop"}]}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
