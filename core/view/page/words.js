// Numbers and times as people read them.

// Four digits that matter.
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size >= 1 ? value.toPrecision(4) : value.toFixed(4);
}

// Of an axis: as short as it can be.
export function short(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  return String(Number(value.toPrecision(4)));
}

export const percent = (share) => `${share > 0 && share < 0.005 ? "< 1" : Math.round(100 * share)} %`;

export function lasting(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(Math.round(seconds), 0);
  const days = Math.floor(whole / 86400), hours = Math.floor(whole / 3600) % 24, minutes = Math.floor(whole / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes >= 10) return `${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

// What a handler took, from microseconds on.
export function taken(seconds) {
  if (seconds >= 100) return lasting(seconds);
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  return seconds >= 1e-3 ? `${(1e3 * seconds).toFixed(seconds >= 0.1 ? 0 : 1)} ms` : `${Math.round(1e6 * seconds)} µs`;
}

export function clock(time) {
  const moment = new Date(time);
  return Number.isNaN(moment.getTime()) ? "" : moment.toLocaleTimeString("en-GB");
}

export const counted = (count, noun, nouns = `${noun}s`) => `${count.toLocaleString("en")} ${count === 1 ? noun : nouns}`;
