"""What the description says in words only, for the requests that are made from it."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """`before` and `after` exclude each other: a request that is meant to be good has one of them."""
    good = case.meta is None or case.meta.generation.mode.is_positive
    if good and case.query and "before" in case.query and "after" in case.query:
        del case.query["after"]


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
