"""Reduces the list that cargo-cyclonedx wrote to the production build of `hongyan`.

Usage: sbom.py TRIPLE FEATURE… <LIST >SBOM

cargo-cyclonedx takes the features of the whole workspace together, so its list also has what only tests and the development
build use. Paths of this machine are taken out, and the time is that of the commit (SOURCE_DATE_EPOCH).
"""

import json
import os
import sys
import time
from pathlib import Path

import notices


def main() -> None:
    triple, features = sys.argv[1], sys.argv[2:]
    root = Path(__file__).resolve().parent.parent
    bom = json.loads(sys.stdin.read().replace(f"path+file://{root}/", "hongyan/").replace("?download_url=file://.", ""))
    used = {(one["name"], one["version"]) for one in notices.packages(triple, features)}
    own = {line.split()[0] for line in notices.tree(triple, features) if "(/" in line}
    before = bom["components"]
    bom["components"] = [one for one in before if (one["name"], one["version"]) in used or one["name"] in own]
    missing = used - {(one["name"], one["version"]) for one in bom["components"]}
    if missing:
        sys.exit(f"sbom.py: cargo-cyclonedx did not list {sorted(missing)}")
    kept = {one["bom-ref"] for one in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
    bom["dependencies"] = [
        {**one, "dependsOn": [other for other in one.get("dependsOn", []) if other in kept]}
        for one in bom["dependencies"]
        if one["ref"] in kept
    ]
    moment = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))
    bom["metadata"]["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
    bom.pop("serialNumber", None)
    json.dump(bom, sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main()
