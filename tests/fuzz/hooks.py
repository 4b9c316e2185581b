"""What the description says in words only, for the requests that are made from it."""

import base64
import itertools
import json
import os

import schemathesis
from schemathesis.generation.meta import TestPhase

NAMES = itertools.count(1)


def caller():
    """The user of the token."""
    claims = os.environ["TOKEN"].split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"])


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """A read position follows a send with the message's id. Some generators refuse a link whose body is an object."""
    links = raw_schema["paths"]["/messages"]["post"]["responses"]["201"]["links"]
    links["read"]["requestBody"] = {"upTo": "$response.body#/id"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """For requests that are meant to be good, `before` excludes `after` and `changedAfter`, each message has a name of its own, and nobody
    blocks themselves."""
    good = case.meta is None or case.meta.generation.mode.is_positive
    if good and case.query and "before" in case.query and "after" in case.query:
        del case.query["after"]
    if good and case.query and "before" in case.query and "changedAfter" in case.query:
        del case.query["changedAfter"]
    # The description has ids as strings alone, and the service takes numbers too. A number that is meant to be bad must be no id.
    if not good and isinstance(case.body, dict):
        for name in ("toId", "upTo"):
            if is_id(case.body.get(name)):
                case.body[name] = -case.body[name]
    if good and case.path_parameters and str(case.path_parameters.get("userId")) == caller():
        case.path_parameters["userId"] = "1"
    # A step that follows a send wants the message that this send made. Under the name of the example it would get the first message
    # of that name, which an earlier request may have deleted.
    follows = case.meta is not None and case.meta.phase.name == TestPhase.STATEFUL
    if good and follows and isinstance(case.body, dict) and isinstance(case.body.get("clientMsgId"), str):
        case.body["clientMsgId"] = f"step {next(NAMES)}"


@schemathesis.hook
def map_body(context, body):
    """A whole number is written without a fraction: Python would write 50.0, which JSON Schema calls an integer."""
    if isinstance(body, dict):
        return {name: whole(value) for name, value in body.items()}
    return body


def whole(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def is_id(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value < 2**63
