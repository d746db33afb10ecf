-- Forward authentication for HAProxy: asks Portcullis' /verify about each request.

local portcullis = "http://" .. os.getenv("PORTCULLIS") .. "/verify"

-- Request headers that Portcullis reads, and response headers that describe a valid token.
local request_headers = { "authorization", "cookie", "sec-fetch-site", "origin", "user-agent" }
local identity_headers = { "x-auth-subject", "x-auth-username", "x-auth-roles", "x-auth-session" }

-- HAProxy counts the values of a header from 0, and takes lists from 1.
local function to_list(values)
    local list = {}
    for index = 0, #values do
        list[index + 1] = values[index]
    end
    return list
end

local function finish(txn, status, headers, body)
    local reply = txn:reply({ status = status, body = body })
    for name, values in pairs(headers) do
        for _, value in pairs(values) do
            reply:add_header(name, value)
        end
    end
    txn:done(reply)
end

core.register_action("portcullis", { "http-req" }, function(txn)
    local from, question = txn.http:req_get_headers(), {}
    for _, name in ipairs(request_headers) do
        if from[name] then
            question[name] = to_list(from[name])
        end
    end
    -- The log of Portcullis shows the client's address if TRUSTED_PROXIES includes this HAProxy.
    question["x-forwarded-for"] = { txn.f:src() }
    question["x-forwarded-method"] = { txn.f:method() }

    -- Times are in milliseconds.
    local answer = core.httpclient():get({ url = portcullis, headers = question, timeout = 2000 })

    if answer and answer.status == 200 then
        for _, name in ipairs(identity_headers) do
            local value = answer.headers[name]
            if value and value[0] ~= "" then
                txn.http:req_set_header(name, value[0])
            end
        end
    elseif answer and answer.status >= 400 and answer.headers then
        -- 401 with its reason; 503 if the token cannot be checked at this moment.
        answer.headers["content-length"] = nil
        answer.headers["connection"] = nil
        finish(txn, answer.status, answer.headers, answer.body)
    else
        finish(txn, 503, { ["retry-after"] = { "1" } }, "")
    end
end, 0)
