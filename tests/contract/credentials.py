"""Credentials for schemathesis: it logs out, changes passwords and deletes accounts, so each case has a user of its own."""

import base64
import itertools
import json
import os
import urllib.request

import schemathesis

BASE = os.environ["PORTCULLIS"]
NUMBERS = itertools.count()
SERVICES = ["/introspect", "/revoke"]


def post(path, body):
    request = urllib.request.Request(
        BASE + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@schemathesis.auth(refresh_interval=None).skip_for(path_regex="|".join(SERVICES) + "|/users/.*")
class OfAUser:
    def get(self, case, context):
        user = {"username": f"user{next(NUMBERS)}", "password": "correct horse battery staple"}
        post("/register", user)
        return post("/login", user)["token"]

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.auth(refresh_interval=None).apply_to(path_regex="/users/.*")
class OfAnAdministrator:
    def get(self, case, context):
        root = {"username": "root", "password": "correct horse battery staple"}
        return post("/login", root)["token"]

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.auth().apply_to(path=SERVICES)
class OfAService:
    def get(self, case, context):
        return base64.b64encode(os.environ["CLIENT"].encode()).decode()

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Basic {data}"
