// What a column is called.

/** Return the name of a column. */
export function columnName(column, about) {
  if (column.kind === "cap") return `Cap at percentile ${column.percentile}, layers ${column.from} to ${column.to - 1}`;
  if (column.kind === "steer") {
    const at = column.layer === null ? "" : ` at layer ${column.layer}`;
    return `Steered by ${column.strength}${at}`;
  }
  if (column.kind === "none") return "No plan";
  return about?.plans?.find((plan) => plan.digest === column.plan)?.name ?? `Plan ${column.plan.slice(0, 12)}`;
}
