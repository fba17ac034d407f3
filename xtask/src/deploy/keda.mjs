// Judges a manifest by the schema of KEDA's ScaledObject.

import { readFileSync } from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { parse } from "yaml";

const { apiVersion, kind, ...rest } = parse(readFileSync(process.argv[2], "utf8"));
if (apiVersion !== "keda.sh/v1alpha1" || kind !== "ScaledObject") {
  throw new Error(`${apiVersion} ${kind} is no ScaledObject`);
}
new ScaledObject(rest).validate();
