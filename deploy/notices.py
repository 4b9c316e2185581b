"""Prints the licences of all code of others that is compiled into `hongyan`.

Usage: notices.py TRIPLE FEATURE…

The texts are the files that each crate brings along. A crate without such a file gets the text of its licence from a crate that
has one, and an error ends the run where there is none. `./dev lint` checks that each licence may be used at all.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

# The crate, the C library that it compiles, and the file with that library's licence, below the crate's folder.
LIBRARIES = [
    ("rdkafka-sys", "librdkafka", "librdkafka/LICENSES.txt"),
    ("openssl-src", "OpenSSL", "openssl/LICENSE.txt"),
    ("libz-sys", "zlib", "src/zlib/LICENSE"),
]

NAMES = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)", re.IGNORECASE)


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def tree(triple: str, features: list[str]) -> list[str]:
    """The crates of the production build, one a line: name, version, and in brackets the folder of a crate of this workspace."""
    lines = cargo(
        "tree", "--locked", "--package", "hongyan-runtime", *features, "--target", triple,
        "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}",
    )
    return sorted({line for line in lines.splitlines() if line.strip()})


def packages(triple: str, features: list[str]) -> list[dict]:
    """The crates that the production build compiles, without those that only build scripts and macros use."""
    every = json.loads(cargo("metadata", "--locked", "--all-features", "--format-version", "1"))["packages"]
    used = {tuple(line.split()[:2]) for line in tree(triple, features)}
    # A build script of openssl-sys compiles it.
    used |= {(one["name"], "v" + one["version"]) for one in every if one["name"] == "openssl-src"}
    found = [one for one in every if (one["name"], "v" + one["version"]) in used and one["source"]]
    return sorted(found, key=lambda one: (one["name"], one["version"]))


def texts(folder: Path) -> list[str]:
    files = sorted(file for file in folder.iterdir() if file.is_file() and NAMES.match(file.name))
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in files]


def choices(licence: str) -> tuple[str, ...]:
    """`MIT/Apache-2.0` and `Apache-2.0 OR MIT` are the same."""
    return tuple(sorted(re.split(r" OR |/", licence)))


def main() -> None:
    triple, features = sys.argv[1], sys.argv[2:]
    found = packages(triple, features)
    if len(found) < 100:
        sys.exit(f"notices.py: only {len(found)} crates were found")
    users: dict[str, list[str]] = defaultdict(list)
    without = []
    by_licence: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        label = f"{one['name']} {one['version']} ({one['license']})"
        own = texts(Path(one["manifest_path"]).parent)
        for text in own:
            users[text].append(label)
        if own:
            by_licence.setdefault(choices(one["license"]), own)
        else:
            without.append((label, one["license"]))
    for label, licence in without:
        # Of "A OR B" either will do.
        same = next((by_licence[one] for one in [choices(licence), *map(choices, choices(licence))] if one in by_licence), None)
        if same is None:
            sys.exit(f"notices.py: no text is known for {label}")
        for text in same:
            users[text].append(label)
    by_name = {one["name"]: one for one in found}
    for crate, library, file in LIBRARIES:
        if crate not in by_name:
            sys.exit(f"notices.py: nothing depends on {crate} any more; take {library} off the list")
        text = (Path(by_name[crate]["manifest_path"]).parent / file).read_text(encoding="utf-8")
        users[text.strip()].append(f"{library}, in {crate} {by_name[crate]['version']}")
    print("Third-party notices of Hongyan\n\nEach text stands once, after the crates and libraries that brought it along.")
    for text, labels in sorted(users.items(), key=lambda item: item[1]):
        print(f"\n{'=' * 78}\n" + "\n".join(labels) + f"\n\n{text}")


if __name__ == "__main__":
    main()
