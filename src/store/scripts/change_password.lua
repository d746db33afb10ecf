#!lua
-- Writes a new password: all sessions of the user end except the acting one, which continues under the new version.
-- KEYS  1 user  2 acting session  3 sessions of the user  4 outbox of the name
-- ARGV  1 user id  2 hash seen  3 new hash  4 username  5 sid  6 version known to the feed  7 access lifetime (ms)
--       8 refresh lifetime (ms)  9 lifetime of the entry (ms)
-- Returns {0, outbox entries} if the acting session is no longer valid or the account is another one by now, {2, outbox
-- entries} if the stored hash is another one, and otherwise {1, outbox entries, sequence number of the new refresh token,
-- now (ms), version, roles, its expiry (ms), end of the session (ms)}.
local user = redis.call('HMGET', KEYS[1], 'id', 'password', 'disabled', 'version', 'min_session_version', 'roles')
local session = redis.call('HMGET', KEYS[2], 'user', 'version', 'revoked', 'counter', 'ends', 'access_expires')
local text = function(value) return string.format('%.0f', value) end
local refused = function() return {0, redis.call('SMEMBERS', KEYS[4])} end
if user[1] ~= ARGV[1] or user[3] ~= '0' then return refused() end
if session[1] ~= ARGV[1] or session[3] or tonumber(session[2]) < tonumber(user[5]) then return refused() end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = tonumber(session[5])
if now >= ends then return refused() end
-- Another password, or the same one, hashed again by a login.
if user[2] ~= ARGV[2] then return {2, redis.call('SMEMBERS', KEYS[4])} end

-- The greatest of the stored version, the feed's version and the date: no version is used twice, even if one was lost.
local version = text(math.max(tonumber(user[4]) + 1, tonumber(ARGV[6]) + 1, now))
redis.call('HSET', KEYS[1], 'password', ARGV[3], 'version', version, 'min_session_version', version)

-- A client that never receives the answer gets the same successor within the grace, as after any refresh.
local number = tonumber(session[4]) + 1
local expires = math.min(now + ARGV[8], ends)
local access = math.max(tonumber(session[6]), math.min(now + ARGV[7], ends))
redis.call('HSET', KEYS[2], 'version', version, 'counter', text(number), 'rotated', text(now), 'seen', text(now),
  'access_expires', text(access))
redis.call('PEXPIREAT', KEYS[2], text(expires))
redis.call('DEL', KEYS[3])
redis.call('ZADD', KEYS[3], text(expires), ARGV[5])
redis.call('PEXPIREAT', KEYS[3], text(expires))

local until_ = now + ARGV[9]
redis.call('SADD', KEYS[4], 'u:' .. ARGV[4] .. ':' .. ARGV[1] .. ':' .. version .. ':' .. version .. ':0:' .. text(until_))
if redis.call('PEXPIRETIME', KEYS[4]) < until_ then redis.call('PEXPIREAT', KEYS[4], text(until_)) end
return {1, redis.call('SMEMBERS', KEYS[4]), number, now, version, user[6], expires, ends}
