// Swagger UI, and the login bar above it. Swagger UI holds the access token; the bar shows its user.
"use strict";

// Name of the security scheme in the document.
const SCHEME = "bearer";
// Name of the user while the browser keeps the tokens in a cookie, which no script can read. It survives a reload.
const COOKIE_USER = "portcullis.cookie-user";

const spec = JSON.parse(document.getElementById("document").textContent);
// The page is a sibling of the routes, so the path prefix of a proxy is kept.
const service = new URL(".", location.href);
spec.servers = [{ url: service.href }];

const loginForm = document.getElementById("login");
const logoutForm = document.getElementById("logout");
const userName = document.getElementById("user");
const message = document.getElementById("message");

const refreshExample = (() => {
    const [content] = Object.values(spec.paths["/refresh"].post.requestBody.content);
    const name = content.schema.$ref.split("/").pop();
    return spec.components.schemas[name].example.refresh_token;
})();
let refreshToken = "";
let cookieUser = sessionStorage.getItem(COOKIE_USER) || "";
// Username of the last login request: its response does not contain it.
let requestedUser = "";

// Path of a URL below the service, and its query.
function route(url) {
    const { origin, pathname, search } = new URL(url, location.href);
    const here = origin === service.origin && pathname.startsWith(service.pathname);
    return { path: here ? pathname.slice(service.pathname.length) : "", search };
}

function hold(tokens) {
    refreshToken = tokens.refresh_token;
    if (tokens.token) {
        ui.preauthorizeApiKey(SCHEME, tokens.token);
        return;
    }
    // A token in the header would be used in place of the cookie.
    dropToken();
    keepCookieUser(requestedUser || cookieUser);
}

function drop() {
    refreshToken = "";
    dropToken();
    keepCookieUser("");
}

function dropToken() {
    // Swagger UI throws if it holds nothing.
    if (heldToken()) {
        ui.authActions.logout([SCHEME]);
    }
}

function keepCookieUser(name) {
    cookieUser = name;
    sessionStorage.setItem(COOKIE_USER, name);
    showUser();
}

// Remembers the username of a login, and sends the last refresh token in place of the example.
function beforeRequest(request) {
    const { path } = route(request.url);
    try {
        const body = JSON.parse(request.body);
        if (path === "login") {
            requestedUser = String(body.username);
        }
        if (path === "refresh" && body.refresh_token === refreshExample && (refreshToken || cookieUser)) {
            request.body = JSON.stringify({ refresh_token: refreshToken }, null, 2);
        }
    } catch {
        // A body that is not JSON is sent unchanged: the service explains the error.
    }
    return request;
}

function afterResponse(response) {
    const { path, search } = route(response.url);
    if (response.status === 200 && ["login", "refresh", "me/password"].includes(path)) {
        hold(response.obj);
    } else if (response.status === 204 && ["logout", "me/delete", "sessions"].includes(path) && !search.includes("keep=")) {
        drop();
    }
    return response;
}

function heldToken() {
    return ui.authSelectors.authorized().getIn([SCHEME, "value"]) || "";
}

function nameIn(token) {
    try {
        const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
        return JSON.parse(atob(payload)).username || "unknown";
    } catch {
        return "unknown";
    }
}

let shown = "";
function showUser() {
    const token = heldToken();
    const held = token + cookieUser;
    if (held === shown) {
        return;
    }
    shown = held;
    // The message was about the previous token.
    say("", false);
    const name = token ? nameIn(token) : cookieUser;
    userName.textContent = name;
    loginForm.hidden = name !== "";
    logoutForm.hidden = name === "";
}

function say(text, isError) {
    message.textContent = text;
    message.classList.toggle("error", isError);
}

// Sends a request of the bar. On any other than the expected statuses, shows the reason in the bar and returns null.
async function send(path, headers, body, expected) {
    let response;
    try {
        response = await fetch(new URL(path, service), { method: "POST", headers, body });
    } catch {
        say("The service did not answer. Try again.", true);
        return null;
    }
    if (expected.includes(response.status)) {
        return response;
    }
    const problem = await response.json().catch(() => ({}));
    const wait = response.headers.get("retry-after");
    const detail = problem.detail || `The service answered with status ${response.status}.`;
    say(wait ? `${detail} (Retry-After: ${wait} s)` : detail, true);
    return null;
}

// Runs the action of a form, and disables its button meanwhile.
function onSubmit(form, action) {
    const button = form.querySelector("button");
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        button.disabled = true;
        try {
            await action();
        } finally {
            button.disabled = false;
        }
    });
}

onSubmit(loginForm, async () => {
    const { username, password } = loginForm.elements;
    say("Logging in…", false);
    const body = JSON.stringify({ username: username.value, password: password.value });
    const response = await send("login", { "content-type": "application/json" }, body, [200]);
    password.value = "";
    if (!response) {
        password.focus();
        return;
    }
    requestedUser = username.value;
    hold(await response.json());
    say("Requests from this page now carry your token.", false);
    logoutForm.querySelector("button").focus();
});

onSubmit(logoutForm, async () => {
    const token = heldToken();
    say("Logging out…", false);
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    // 401: the session has ended already, as requested.
    const response = await send("logout", headers, undefined, [204, 401]);
    if (response) {
        drop();
        say("Logged out: no replica accepts the token any more.", false);
        loginForm.elements.username.focus();
    }
});

const ui = SwaggerUIBundle({
    dom_id: "#ui",
    spec,
    deepLinking: true,
    tryItOutEnabled: true,
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    requestInterceptor: beforeRequest,
    responseInterceptor: afterResponse,
});
ui.getStore().subscribe(showUser);
showUser();
