"""Parses a Compose file as Compose would: variables first, then YAML and its merges, then the specification."""

import re
import sys

import compose_spec
import yaml

VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?:(?P<how>:-|:\?)(?P<rest>[^}]*))?\}")


def value(variable):
    """A default, if there is one; what must be set is set to something that is safe in a URL."""
    if variable["how"] == ":-":
        return variable["rest"]
    if variable["how"] == ":?":
        return "value"
    sys.exit(f"{variable[0]}: has neither a default nor a word about what to do")


def main(path):
    with open(path, encoding="utf-8") as file:
        text = VARIABLE.sub(value, file.read())
    if left := re.search(r"\$.*", text):
        sys.exit(f"what is a variable, and what is not? {left[0]}")
    whole = yaml.safe_load(text)
    # It refuses keys that it does not know.
    spec = compose_spec.PyCompose.from_yaml(yaml.safe_dump(whole))
    for judge in (spec.validate_networks, spec.validate_volumes, spec.validate_secrets):
        judge()
    services = whole["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            if other not in services:
                sys.exit(f"{name} depends on {other}, which is no service")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith("./") and source not in whole["volumes"]:
                sys.exit(f"{name}: {source} is no volume")


main(sys.argv[1])
