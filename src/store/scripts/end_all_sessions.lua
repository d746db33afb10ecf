#!lua flags=allow-oom
-- Revokes all sessions of a user: raises the version, and leaves the entry for the feed in the outbox.
-- KEYS  1 user  2 acting session  3 sessions of the user  4 outbox of the name
-- ARGV  1 user id seen  2 username  3 version known to the feed  4 lifetime of the entry (ms)
-- Returns {1, outbox entries}, or {0, outbox entries} if the acting session is no longer valid or the account is another
-- one. The entry that ended that session may be among them: it must reach the feed before the client learns of the end.
local user = redis.call('HMGET', KEYS[1], 'id', 'version', 'min_session_version')
local session = redis.call('HMGET', KEYS[2], 'version', 'revoked')
if user[1] ~= ARGV[1] or not session[1] or session[2] or tonumber(session[1]) < tonumber(user[3]) then
  return {0, redis.call('SMEMBERS', KEYS[4])}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The greatest of the stored version, the feed's version and the date: no version is used twice, even if one was lost.
local version = string.format('%.0f', math.max(tonumber(user[2]) + 1, tonumber(ARGV[3]) + 1, now))
local until_ = now + ARGV[4]
redis.call('HSET', KEYS[1], 'version', version, 'min_session_version', version)
redis.call('DEL', KEYS[2], KEYS[3])
local entry = 'u:' .. ARGV[2] .. ':' .. ARGV[1] .. ':' .. version .. ':' .. version .. ':0:' .. string.format('%.0f', until_)
redis.call('SADD', KEYS[4], entry)
if redis.call('PEXPIRETIME', KEYS[4]) < until_ then redis.call('PEXPIREAT', KEYS[4], string.format('%.0f', until_)) end
return {1, redis.call('SMEMBERS', KEYS[4])}
