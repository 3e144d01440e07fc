"""Certificates that openssl makes for tests."""

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str, host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """A chain and its key, signed by itself. `host` as openssl's subjectAltName has it: "DNS:maya.test"."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [
            *made.split(),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={host}"),
            *("-keyout", str(key), "-out", str(chain)),
        ],
        check=True,
        capture_output=True,
    )
    return chain, key
