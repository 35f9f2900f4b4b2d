// Curves on their way into a chart: smoothed, and brought onto the same steps.

// The mean of an exponential mean from the left and one from the right, which neither lags nor leads. `weight` in [0, 1) is
// that of what was before; where points lie further apart than most of them do, it counts for less.
export function smoothed({ steps, values }, weight) {
  if (weight <= 0 || values.length < 2) return values;
  const usual = usualGap(steps);
  const kept = steps.map((step, place) => (place ? weight ** ((step - steps[place - 1]) / usual) : weight));
  const left = means(values, kept);
  const right = means([...values].reverse(), [weight, ...kept.slice(1).reverse()]).reverse();
  return left.map((mean, place) => (mean + right[place]) / 2);
}

// Unbiased at its beginning; `kept` is the weight at each place of what was before.
function means(values, kept) {
  let mean = 0, whole = 0;
  return values.map((value, place) => {
    mean = kept[place] * mean + (1 - kept[place]) * value;
    whole = kept[place] * whole + (1 - kept[place]);
    return mean / whole;
  });
}

function usualGap(steps) {
  const gaps = [];
  for (let place = 1; place < steps.length; place += Math.max(1, Math.floor(steps.length / 200))) gaps.push(steps[place] - steps[place - 1]);
  gaps.sort((one, other) => one - other);
  return Math.max(gaps[gaps.length >> 1] ?? 1, 1);
}

// [steps of all, values of each with null where it has none]; every one is {steps, values}.
export function joined(curves) {
  const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((one, other) => one - other);
  const place = new Map(steps.map((step, index) => [step, index]));
  return [steps, ...curves.map((curve) => {
    const row = new Array(steps.length).fill(null);
    curve.steps.forEach((step, index) => { row[place.get(step)] = curve.values[index]; });
    return row;
  })];
}

// The last value at or before a place of a row.
export function lastBefore(row, place) {
  for (let index = Math.min(place, row.length - 1); index >= 0; index -= 1) {
    if (row[index] !== null && row[index] !== undefined) return row[index];
  }
  return null;
}
