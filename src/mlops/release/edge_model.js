// Predicts rows in a browser as the service does: the same checks, the same encoding, the same file.
const PARTS = {date: ["days", "month", "weekday", "hour"], time: ["hours", "sine", "cosine"]}
const MOST_NUMBER = 3e38
const MOST_PROBLEMS = 20
const TIME = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d{1,6})?))?$/
const DATE = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?$/i

export class InvalidRowsError extends Error {
  constructor(problems) {
    super(`${problems.length} invalid value${problems.length === 1 ? "" : "s"}`)
    this.detail = problems.slice(0, MOST_PROBLEMS)
  }
}

/** A function from rows to `{prediction, probabilities}` of each. */
export function predictor(session, contract) {
  return async (rows) => {
    const columns = checked(rows, contract)
    const feeds = {}
    for (const [name, wanted, make] of [["numbers", contract.numbers, doubles], ["codes", contract.codes, integers]]) {
      if (wanted.length) feeds[name] = make(rows.length, wanted, columns)
    }
    const found = await session.run(feeds)
    const [answer, features] = session.outputNames.map((name) => found[name].data)
    if (features) checkFeatures(features, contract, columns, rows.length)
    return decided(answer, contract, rows.length)
  }
}

/** The values of each field, corrected; numbers for all but categories, NaN or null where missing. */
function checked(rows, contract) {
  const problems = []
  const known = new Set(contract.fields.map((field) => field.name))
  rows.forEach((row, n) => {
    if (Object.prototype.toString.call(row) !== "[object Object]") {
      throw new InvalidRowsError([{row: n, field: null, problem: "input should be an object"}])
    }
    for (const name of Object.keys(row)) {
      if (!known.has(name)) problems.push({row: n, field: name, problem: "is not a field of this model"})
    }
  })
  const columns = new Map()
  for (const field of contract.fields) {
    columns.set(field.name, rows.map((row, n) => {
      const [value, problem] = Object.hasOwn(row, field.name) ? parsed(row[field.name], field) : [NaN, "is missing"]
      if (problem) problems.push({row: n, field: field.name, problem})
      return field.clean ? corrected(value, field.clean) : value
    }))
  }
  if (problems.length) throw new InvalidRowsError(problems.sort((one, other) => one.row - other.row))
  return columns
}

/** A value and what is wrong with it. */
export function parsed(value, field) {
  if (value === null) {
    const missing = field.kind === "categorical" ? null : NaN
    return [missing, field.nullable ? "" : "is null, but the training data had no missing values in this column"]
  }
  if (field.kind === "numeric") {
    // a table may hold larger values than a client is expected to send
    const most = Math.max(MOST_NUMBER, Math.abs(field.low ?? 0), Math.abs(field.high ?? 0))
    if (typeof value !== "number") return [NaN, "should be a number"]
    return [value, Math.abs(value) <= most ? "" : `is outside the limit ${most}`]
  }
  if (field.kind === "boolean") return typeof value === "boolean" ? [Number(value), ""] : [NaN, "should be true or false"]
  if (field.kind === "date") return [moment(value), isNaN(moment(value)) ? "should be a date such as 2025-12-31" : ""]
  if (field.kind === "time") return [seconds(value), isNaN(seconds(value)) ? "should be a time of day such as 11:38" : ""]
  if (typeof value !== "string") return [null, "should be a text"]
  return [value, !field.values || field.values.includes(value) ? "" : `should be one of ${field.values.join(", ")}`]
}

/** Seconds since 1970 in UTC; NaN if it is no date. */
function moment(text) {
  const found = typeof text === "string" && DATE.exec(text)
  if (!found) return NaN
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) => Number(part ?? 0))
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  const real = year >= 1 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day
  if (!real || hour > 23 || minute > 59 || second > 59) return NaN
  const zone = /([+-])(\d\d):?(\d\d)/.exec(found[7] ?? "")
  const offset = zone ? (zone[1] === "-" ? -1 : 1) * (zone[2] * 60 + Number(zone[3])) : 0
  return date.getTime() / 1000 + hour * 3600 + (minute - offset) * 60 + second
}

/** Seconds since midnight; NaN if it is no time of day. */
function seconds(text) {
  const found = typeof text === "string" && TIME.exec(text)
  return found ? found[1] * 3600 + found[2] * 60 + Number(found[3] ?? 0) : NaN
}

function corrected(value, rule) {
  if (rule.factor !== undefined && (value > (rule.above ?? Infinity) || value < (rule.below ?? -Infinity))) value *= rule.factor
  if (rule.outside === "clip") return Math.min(Math.max(value, rule.low ?? -Infinity), rule.high ?? Infinity)
  const beyond = value < (rule.low ?? -Infinity) || value > (rule.high ?? Infinity)
  return rule.outside === "missing" && beyond ? NaN : value
}

/** The numbers that a date or a time of day becomes. */
function parts(value, kind) {
  if (kind === "date") {
    const days = Math.floor(value / 86400)
    const weekday = (((days + 3) % 7) + 7) % 7 // the first of January 1970 was a Thursday
    const month = isNaN(value) ? NaN : new Date(value * 1000).getUTCMonth() + 1
    return [value / 86400, month, weekday, Math.floor(value / 3600) - days * 24]
  }
  const angle = (value * 2 * Math.PI) / 86400
  return [value / 3600, ...[Math.sin(angle), Math.cos(angle)].map((each) => Math.round(each * 1e12) / 1e12)]
}

function doubles(rows, wanted, columns) {
  const values = new Float64Array(rows * wanted.length)
  wanted.forEach(({field, part}, place) => {
    const kind = Object.keys(PARTS).find((each) => PARTS[each].includes(part))
    columns.get(field).forEach((value, row) => {
      values[row * wanted.length + place] = kind ? parts(value, kind)[PARTS[kind].indexOf(part)] : value
    })
  })
  return new ort.Tensor("float64", values, [rows, wanted.length])
}

/** Codes of categories; the code after the last is for a missing value, the next for any other. */
function integers(rows, wanted, columns) {
  const values = new BigInt64Array(rows * wanted.length)
  wanted.forEach(({field, categories}, place) => {
    const codes = new Map([...categories, null].map((name, code) => [name, BigInt(code)]))
    columns.get(field).forEach((value, row) => {
      values[row * wanted.length + place] = codes.get(value) ?? BigInt(codes.size)
    })
  })
  return new ort.Tensor("int64", values, [rows, wanted.length])
}

/** A feature must have a value where all of its columns have one. */
function checkFeatures(values, contract, columns, rows) {
  const problems = []
  for (let row = 0; row < rows; row++) {
    contract.features.forEach((feature, place) => {
      const value = values[row * contract.features.length + place]
      const inputs = feature.columns.map((name) => [name, columns.get(name)[row]])
      const absent = inputs.some(([, each]) => isNaN(each))
      const wrong = isNaN(value) ? !absent : !isFinite(value) || (feature.kind === "boolean" && value !== 0 && value !== 1)
      const from = inputs.map(([name, each]) => `${name} = ${each}`).join(", ")
      if (wrong) problems.push({row, field: feature.name, problem: `is ${value}; computed from ${from}`})
    })
  }
  if (problems.length) throw new InvalidRowsError(problems)
}

/** The answer of each row, as the API gives it. */
function decided(values, contract, rows) {
  const width = values.length / rows
  const problem = "has values too large for the model to compute a prediction"
  const every = Array.from({length: rows}, (_, row) => Array.from(values.subarray(row * width, (row + 1) * width)))
  const problems = every.flatMap((found, row) => (found.every(isFinite) ? [] : [{row, field: null, problem}]))
  if (problems.length) throw new InvalidRowsError(problems)
  const {classes, positive, threshold} = contract
  if (!classes) return every.map(([prediction]) => ({prediction}))
  const names = classes.map((label) => (typeof label === "string" ? label : JSON.stringify(label)))
  return every.map((found) => {
    const place = classes.indexOf(positive)
    const best = threshold === undefined ? found.indexOf(Math.max(...found)) : found[place] >= threshold ? place : 1 - place
    return {prediction: classes[best], probabilities: Object.fromEntries(names.map((name, n) => [name, found[n]]))}
  })
}
