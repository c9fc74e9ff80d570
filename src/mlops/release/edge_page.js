// The page: a field for each column with the range of the training rows and a working example, and the prediction.
import {InvalidRowsError, parsed, predictor} from "./model.js"

const by = (id) => document.getElementById(id)
const main = document.querySelector("main")
const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value))

function made(tag, text, properties = {}) {
  return Object.assign(document.createElement(tag), {...(text === undefined ? {} : {textContent: text}), ...properties})
}

/** Label, input and range of a field; the values of a field with few are listed. */
function input(field, place) {
  const listed = field.kind === "boolean" ? [true, false] : field.values
  const box = made("div")
  const entry = listed ? made("select") : made("input", undefined, {type: "text", inputMode: field.kind === "numeric" ? "decimal" : "text"})
  if (listed) {
    const options = [...(field.nullable ? [null] : []), ...listed]
    entry.append(...options.map((value) => new Option(value === null ? "missing" : shown(value), JSON.stringify(value))))
    for (const option of entry.options) option.defaultSelected = option.value === JSON.stringify(field.example)
  } else entry.defaultValue = field.example ?? ""
  entry.id = `field-${place}`
  const range = field.low === undefined ? "" : `${field.low} to ${field.high}`
  const note = made("small", [range, field.nullable && !listed ? "may be empty" : ""].filter(Boolean).join("; "))
  note.id = `note-${place}`
  entry.setAttribute("aria-describedby", note.id)
  box.append(made("label", field.unit ? `${field.name} (${field.unit})` : field.name, {htmlFor: entry.id}), entry, note)
  return {field, box, entry, note, range: note.textContent, listed}
}

/** What a client would send for an input. */
function value({field, entry, listed}) {
  if (listed) return JSON.parse(entry.value)
  const text = entry.value.trim()
  if (!text) return null
  return field.kind === "numeric" && !isNaN(text) ? Number(text) : text
}

/** Mark an input whose value does not fit, or lies outside the range of the training rows. */
function mark(each) {
  const [found, problem] = parsed(value(each), each.field)
  const [low, high] = [each.field.low, each.field.high].map((end) => (end === undefined ? NaN : parsed(end, each.field)[0]))
  const outside = found < low || found > high
  each.box.className = problem ? "bad" : outside ? "warn" : ""
  each.note.textContent = problem || (outside ? `outside the training rows: ${each.range}` : each.range)
  each.entry.setAttribute("aria-invalid", Boolean(problem))
}

function show(contract, {prediction, probabilities}) {
  const unit = contract.unit ? ` ${contract.unit}` : ""
  const number = typeof prediction === "number" && !contract.classes
  const content = [made("span", contract.target, {className: "quiet"}), made("b", `${number ? prediction.toPrecision(6) : shown(prediction)}${unit}`)]
  if (probabilities) {
    const list = made("dl")
    for (const [name, probability] of Object.entries(probabilities)) {
      const label = made("dt", undefined)
      label.append(made("span", name), made("span", `${(100 * probability).toFixed(1)} %`))
      const bar = made("dd")
      const filled = made("span")
      filled.style.width = `${100 * probability}%`
      bar.append(filled)
      list.append(label, bar)
    }
    content.push(list)
  }
  by("answer").replaceChildren(...content)
}

function refuse(error) {
  const list = made("ul")
  for (const {field, problem} of error.detail ?? [{problem: error.message}]) list.append(made("li", [field, problem].filter(Boolean).join(" ")))
  by("answer").replaceChildren(made("b", "No prediction", {className: "bad"}), list)
}

function form(contract, predict) {
  const inputs = contract.fields.map(input)
  by("fields").replaceChildren(...inputs.map((each) => each.box))
  let latest = 0
  async function update() {
    const number = ++latest
    inputs.forEach(mark)
    try {
      const [answer] = await predict([Object.fromEntries(inputs.map((each) => [each.field.name, value(each)]))])
      if (number === latest) show(contract, answer)
    } catch (error) {
      if (number === latest) refuse(error)
    }
  }
  const element = document.querySelector("form")
  element.addEventListener("input", update)
  element.addEventListener("submit", (event) => event.preventDefault())
  element.addEventListener("reset", () => setTimeout(update))
  return update()
}

/** The body of an answer to the body of a request; what is wrong has the API's form. */
async function answered(text, predict, release) {
  let request
  try {
    request = JSON.parse(text)
  } catch (error) {
    return {error: `the body is not JSON: ${error.message}`}
  }
  if (!Array.isArray(request?.rows) || !request.rows.length) return {error: "1 invalid value", detail: [{row: null, field: "rows", problem: "should be a list of at least one row"}]}
  try {
    return {predictions: await predict(request.rows), version: release.version, model: release.model_md5}
  } catch (error) {
    return {error: error.message, ...(error instanceof InvalidRowsError ? {detail: error.detail} : {})}
  }
}

function many(contract, predict, release) {
  const row = Object.fromEntries(contract.fields.map((field) => [field.name, field.example ?? null]))
  by("request").value = JSON.stringify({rows: [row]}, null, 2)
  by("predict").addEventListener("click", async () => {
    const start = performance.now()
    const answer = await answered(by("request").value, predict, release)
    by("time").textContent = answer.predictions ? `${answer.predictions.length} row${answer.predictions.length === 1 ? "" : "s"} in ${(performance.now() - start).toFixed(1)} ms` : ""
    by("response").hidden = false
    by("response").textContent = JSON.stringify(answer, null, 2)
  })
}

async function start() {
  if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly, which the model needs")
  const [contract, release, content] = await Promise.all([
    read("contract.json").then((answer) => answer.json()),
    read("release.json").then((answer) => answer.json()),
    read("model.onnx").then((answer) => answer.arrayBuffer()),
  ])
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmPaths = new URL("./", location.href).href
  const predict = predictor(await ort.InferenceSession.create(content, {executionProviders: ["wasm"]}), contract)
  document.title = document.querySelector("h1").textContent = `Model of ${contract.target}`
  by("origin").textContent = `Version ${release.version}, commit ${release.commit.slice(0, 10)}.`
  await form(contract, predict)
  many(contract, predict, release)
  by("state").textContent = ""
  main.hidden = false
  performance.mark("predicted")
}

async function read(name) {
  const answer = await fetch(name)
  if (!answer.ok) throw new Error(`${name} is missing: the server answers ${answer.status}`)
  return answer
}

start().catch((error) => {
  by("state").className = "bad"
  by("state").textContent = `The model does not start: ${error.message}.`
})
