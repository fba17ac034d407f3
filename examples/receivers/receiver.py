"""A receiver in Python: verifies each webhook with the public library, handles each event once, prints it.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_… python receiver.py
"""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# While a secret is rotated, both the old and the new one sign: change it here at any time until the overlap ends.
webhook = Webhook(os.environ["WEBHOOK_SECRET"])
MAX_BODY = 1_000_000

# Webhooks come at least once. A real service remembers ids where its data is, and in the same transaction.
handled = set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            length = int(self.headers.get("content-length", 0))
        except ValueError:
            length = -1
        # Of a negative length `read` would take all that comes, without an end.
        if length < 0:
            return self.answer(400)
        if length > MAX_BODY:
            return self.answer(413)
        # The signature is of these bytes: parse them only afterwards, and never write them anew before.
        body = self.rfile.read(length)
        try:
            event = webhook.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            return self.answer(401)
        event_id = self.headers["webhook-id"]
        if event_id not in handled:
            handled.add(event_id)
            print(event_id, event["type"], ascii(event["data"]), flush=True)
        # 2xx once the event is safe. Anything else, and the sender tries again.
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "4000"))), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
