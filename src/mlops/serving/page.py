"""The page at `/`: Swagger UI with the description of the API and a form for the token. It loads nothing else."""

from __future__ import annotations

import html

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="./static_content/swagger-ui.css"><link rel="stylesheet" href="./page.css"></head>
<body><form id="sign-in" hidden><h1>This service asks for a token</h1>
<label for="token">Bearer token</label> <input id="token" type="password" autocomplete="off" required>
<button>Open</button> <span id="refused" role="alert" hidden>The service refused this token.</span></form>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script src="./page.js"></script></body></html>
"""
SCRIPT = """if (!location.hash) location.hash = "#/model/predict"  // opened, with the example filled in
const signed = (token) => (token ? {Authorization: `Bearer ${token}`} : {})
const form = document.getElementById("sign-in")
async function show(token) {
  const answer = await fetch("./docs.json", {headers: signed(token)})
  form.hidden = answer.status !== 401
  if (!answer.ok) {
    document.getElementById("refused").hidden = !token
    return
  }
  SwaggerUIBundle({
    spec: await answer.json(), dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true,
    defaultModelsExpandDepth: -1,
    requestInterceptor: (request) => Object.assign(request, {headers: {...request.headers, ...signed(token)}}),
  })
}
form.addEventListener("submit", (event) => {
  event.preventDefault()
  show(document.getElementById("token").value.trim())
})
show("")
"""
STYLE = """body { margin: 0 }
#sign-in { font: 1rem/2 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto; padding: 0 1rem }
#sign-in h1 { font-size: 1.4rem }
#sign-in input, #sign-in button { font: inherit; padding: 0.2rem 0.6rem }
#refused { color: #b00020; display: block }
#refused[hidden] { display: none }
.swagger-ui .servers-title, .swagger-ui .servers, .swagger-ui .operation-servers { display: none }
.swagger-ui .response-col_links, .swagger-ui .response-control-media-type__accept-message { display: none }
.swagger-ui .scheme-container:not(:has(.auth-wrapper)) { display: none }
.swagger-ui .info { margin: 30px 0 }
.swagger-ui textarea { min-height: 300px }
"""


def page(title: str) -> dict[str, tuple[bytes, bytes]]:
    """Content type and content of the page and its files, by path."""
    return {
        "/": (b"text/html; charset=utf-8", PAGE.format(title=html.escape(title)).encode()),
        "/page.js": (b"text/javascript; charset=utf-8", SCRIPT.encode()),
        "/page.css": (b"text/css; charset=utf-8", STYLE.encode()),
    }
