"""The audit of what is installed sees what it is to see."""

import json
from importlib import metadata

from tests.helpers.tools import tool

audit = tool("audit")


def test_licences():
    assert audit.wrong_licences() == []
    refused = audit.wrong_licences(tuple(set(audit.LICENCES) - {"Apache"}))
    assert any(line.startswith("tensorflow ") for line in refused)


def test_versions_with_known_vulnerabilities():
    version = metadata.version("numpy")
    assert audit.in_the_list({"numpy": version, "no-such-package": "1"}) == []
    assert audit.in_the_list({"numpy": "9999"}) == [f"numpy {version}: known vulnerabilities below 9999"]
    known = json.loads(audit.ADVISORIES.read_text())
    assert {"tensorflow", "numpy", "jupyter-server"} <= set(known["affected_below"])
