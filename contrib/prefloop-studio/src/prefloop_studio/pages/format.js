// How numbers and times are written.

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

export const percent = (rate) => (rate === null || rate === undefined ? "–" : `${Math.round(100 * rate)} %`);

/** `78 % (62 to 88)`, a rate with its interval. */
export function interval(rate) {
  if (!rate) return "–";
  return `${percent(rate.rate)} (${range(rate)})`;
}

export const range = (rate) => `${Math.round(100 * rate.low)} to ${Math.round(100 * rate.high)}`;

export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

export function ago(iso) {
  const then = Date.parse(iso);
  return Number.isNaN(then) ? "" : `${duration((Date.now() - then) / 1000)} ago`;
}

export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return `${count < 10 && unit ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}
