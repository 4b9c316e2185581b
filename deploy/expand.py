"""Expands template.yaml (SAM) into the CloudFormation that AWS would make of it, without AWS.

Usage: expand.py TEMPLATE OUTPUT.json

cfn-lint on the SAM template itself does not see a misspelt property of an event source or of a function; on the
expanded one it does. What SAM resolves by itself, it resolves with the parameters' defaults.
"""

import json
import logging
import sys
from pathlib import Path

from samtranslator.parser.parser import Parser
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

# The names of the managed policies that SAM attaches; AWS's own transform asks IAM for them.
PARTITION = "arn:aws:iam::aws:policy/"
MANAGED_POLICIES = {
    name.rsplit("/", 1)[-1]: PARTITION + name
    for name in (
        "service-role/AWSLambdaBasicExecutionRole",
        "service-role/AWSLambdaVPCAccessExecutionRole",
        "service-role/AWSCodeDeployRoleForLambda",
        "AWSLambdaManagedEC2ResourceOperator",
    )
}


def with_uploaded_code(template):
    """`sam package` replaces each CodeUri by the bucket it uploads to; the translator wants that form."""
    functions = [r for r in template["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    for function in functions:
        function["Properties"]["CodeUri"] = "s3://bucket/key"
    template.get("Globals", {}).get("Function", {}).pop("CodeUri", None)
    return template


def main(source, target):
    # Feature toggles that only AWS's own service has are not news.
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    template = with_uploaded_code(yaml_parse(Path(source).read_text(encoding="utf-8")))
    translator = Translator(MANAGED_POLICIES, Parser())
    try:
        expanded = translator.translate(template, parameter_values={})
    except InvalidDocumentException as error:
        for cause in error.causes:
            print(f"{source}: {cause.message}", file=sys.stderr)
        return 1
    Path(target).write_text(json.dumps(expanded, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
