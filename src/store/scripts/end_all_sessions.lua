#!lua flags=allow-oom
-- Decides that all sessions of a user are void: raises his version, and leaves the entry for the feed in the outbox.
-- KEYS  1 user  2 session that acts  3 sessions of the user  4 outbox of the name
-- ARGV  1 user id seen  2 username  3 version that the feed knows  4 how long the entry lives (ms)
-- Returns {1, outbox entries}, or {0, outbox entries} where the acting session does not stand or the account is another.
-- What has ended that session may be among them: then it must be told before anyone hears that the session has ended.
local user = redis.call('HMGET', KEYS[1], 'id', 'version', 'sessions_from')
local session = redis.call('HMGET', KEYS[2], 'version', 'revoked')
if user[1] ~= ARGV[1] or not session[1] or session[2] or tonumber(session[1]) < tonumber(user[3]) then
  return {0, redis.call('SMEMBERS', KEYS[4])}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The largest of what is stored, what the feed knows and the date: no version is ever used twice, also where one was lost.
local version = string.format('%.0f', math.max(tonumber(user[2]) + 1, tonumber(ARGV[3]) + 1, now))
local until_ = now + ARGV[4]
redis.call('HSET', KEYS[1], 'version', version, 'sessions_from', version)
redis.call('DEL', KEYS[2], KEYS[3])
local entry = 'u:' .. ARGV[2] .. ':' .. ARGV[1] .. ':' .. version .. ':' .. version .. ':0:' .. string.format('%.0f', until_)
redis.call('SADD', KEYS[4], entry)
if redis.call('PEXPIRETIME', KEYS[4]) < until_ then redis.call('PEXPIREAT', KEYS[4], string.format('%.0f', until_)) end
return {1, redis.call('SMEMBERS', KEYS[4])}
