"""Verifies messages of webhooks with the reference library for Python (PyPI's standardwebhooks).

The argument is a JSON list of objects: `secret`, `headers` and `body`, the text of the message. Prints a JSON list with
the verified bodies; null for a message that the library refuses.

Exit status 77 means that the package is not installed.
"""

import json
import sys

try:
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError
except ImportError as cause:
    print(cause, file=sys.stderr)
    sys.exit(77)


def verified(message):
    try:
        return Webhook(message["secret"]).verify(message["body"], message["headers"])
    except WebhookVerificationError:
        return None


print(json.dumps([verified(message) for message in json.loads(sys.argv[1])]))
