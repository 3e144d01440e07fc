"""What pip-audit found, for audit.sh: `audit_report.py RESULT.json ACCEPTED.txt PACKAGES`. Exit status 1 for
a hole that is not accepted; 0 where nobody could be asked, which is said."""

import json
import sys
from pathlib import Path


def main(result: str, accepted_file: str, packages: str) -> int:
    lines = Path(accepted_file).read_text(encoding="utf-8").splitlines()
    accepted = {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}
    try:
        found = json.loads(Path(result).read_text(encoding="utf-8"))["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    asked = [package for package in found if "vulns" in package]
    holes = [
        (package["name"], package["version"], hole)
        for package in asked
        for hole in package["vulns"]
        if not accepted & {hole["id"], *hole.get("aliases", ())}
    ]
    if not asked:
        print(
            "    NOT AUDITED: the vulnerability service cannot be reached from here, so of none of the "
            f"{packages} packages is it known\n    whether it has holes. Where it can be reached: "
            "infra/setup/security.sh audit"
        )
        return 0
    for name, version, hole in holes:
        fixed = ", ".join(hole.get("fix_versions", ())) or "no version yet"
        print(f"    {name} {version}: {hole['id']} {' '.join(hole.get('aliases', ()))}; mended in {fixed}")
    unknown = int(packages) - len(asked)
    print(
        f"    {len(asked)} packages audited, {len(holes)} holes that are not accepted"
        + (f"; {unknown} could not be audited" if unknown else "")
    )
    return int(bool(holes))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
