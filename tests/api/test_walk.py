"""The walk that docs/api.md begins with, done line by line by the programs it names."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import requests
from served import ACME, Served

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
MISSING = [program for program in ("bash", "curl", "jq") if shutil.which(program) is None]


def test_the_walk_is_in_the_readme_as_well() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert [line for line in walk() if f"$ {line}\n" not in readme] == []


def walk(which: str = "walk") -> list[str]:
    """The commands of the page's walk, or of what is done before."""
    block = PAGE.read_text(encoding="utf-8").split(f"<!-- {which} -->")[1].split("```")[1]
    return re.findall(r"^\$ (.+)$", block, re.MULTILINE)


def test_the_key_made_before_the_walk_holds_at_the_service_started_there(tmp_path: Path) -> None:
    *making, serving = walk("before the walk")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "HOME": str(tmp_path)}
    script = "\n".join(["set -e", *making, f"exec {serving} --port 0"])
    with subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, env=environment, stdout=PIPE, stderr=PIPE, text=True
    ) as started:
        try:
            assert started.stdout
            assert started.stderr
            key = next(line for line in started.stdout if line.startswith("slw_live_")).strip()
            address = next(found[0] for line in started.stderr if (found := re.search(r"http://127[\d.:]+", line)))
            headers = {"Authorization": f"Bearer {key}"}
            said = requests.get(f"{address}/api/v1/session", headers=headers, timeout=10)
            assert (said.status_code, said.json()["tenant_id"]) == (200, ACME)
        finally:
            started.terminate()


@pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason=f"{', '.join(MISSING)} is not installed here")
def test_the_walk_in_the_documentation_finds_imports_views_enriches_and_exports_somebody(
    served: Served, tmp_path: Path
) -> None:
    key, address = served.keys[f"tenant_admin@{ACME}"], f"{served.url}/api/v1"
    script = "set -euo pipefail\n" + "\n".join(f"{line}\necho" for line in walk())
    environment = {"KEY": key, "API": address, "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    viewed, enriched, usage = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert (viewed["enrichment_status"], enriched["enrichment_status"]) == ("none", "complete")
    assert viewed["id"] == enriched["id"]
    with (tmp_path / "enriched.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert len(row["enriched_full_name"].split()) > 1, "a search shows half a name, and Apollo tells it whole"
    assert row["enriched_work_email"] == enriched["fields"]["work_email"]["value"]
    assert usage
