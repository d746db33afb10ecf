#!lua
-- Opens a session after a password was verified, unless the account has changed since it was read.
-- KEYS  1 user  2 session  3 sessions of the user  4 outbox of the name
-- ARGV  1 user id seen  2 min_session_version seen  3 sid  4 access lifetime (ms)  5 version and 6 min_session_version known
--       to the feed  7 refresh lifetime (ms)  8 maximum lifetime of a session (ms)  9 user agent  10 address  11 maximum
--       number of sessions
-- Returns {1, now (ms), version, roles, outbox entries, expiry of the refresh token (ms), sids beyond the maximum} or {0}.
local user = redis.call('HMGET', KEYS[1], 'id', 'min_session_version', 'disabled', 'version', 'roles')
if user[1] ~= ARGV[1] or user[2] ~= ARGV[2] or user[3] ~= '0' then return {0} end
-- A version that the feed knows and the store has lost still holds: none is used twice, no void session comes back.
if tonumber(user[2]) < tonumber(ARGV[6]) then redis.call('HSET', KEYS[1], 'min_session_version', ARGV[6]) end
if tonumber(user[4]) < tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'version', ARGV[5])
  user[4] = ARGV[5]
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = function(number) return string.format('%.0f', number) end
local ends = now + ARGV[8]
local expires = math.min(now + ARGV[7], ends)
redis.call('HSET', KEYS[2], 'user', ARGV[1], 'version', user[4], 'created', text(now), 'seen', text(now), 'ends', text(ends),
  'access_expires', text(math.min(now + ARGV[4], ends)), 'counter', '1', 'rotated', '0', 'agent', ARGV[9], 'address', ARGV[10])
redis.call('PEXPIREAT', KEYS[2], text(expires))
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', text(now))
redis.call('ZADD', KEYS[3], text(expires), ARGV[3])
if redis.call('PEXPIRETIME', KEYS[3]) < expires then redis.call('PEXPIREAT', KEYS[3], text(expires)) end
redis.call('HSET', KEYS[1], 'last_login', text(now))
-- The sessions that were not refreshed for the longest time come first.
local beyond = redis.call('ZCARD', KEYS[3]) - ARGV[11]
local oldest = beyond > 0 and redis.call('ZRANGE', KEYS[3], 0, beyond - 1) or {}
return {1, now, user[4], user[5], redis.call('SMEMBERS', KEYS[4]), expires, oldest}
