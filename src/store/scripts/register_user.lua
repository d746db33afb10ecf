#!lua
-- Creates a user, unless the name is taken.
-- KEYS  1 user  2 outbox of the name
-- ARGV  1 id  2 username  3 password hash  4 roles  5 '1' if disabled  6 digest of the imported record, or ''
-- Returns {1, created (ms), outbox entries} or {0, 1 if the account was imported from the same record}.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {0, ARGV[6] ~= '' and redis.call('HGET', KEYS[1], 'imported') == ARGV[6] and 1 or 0}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Versions are dates, so that no version of an earlier account of the same name is used again.
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'username', ARGV[2], 'password', ARGV[3], 'roles', ARGV[4], 'disabled', ARGV[5],
  'version', now, 'min_session_version', now, 'created', now)
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'imported', ARGV[6]) end
return {1, now, redis.call('SMEMBERS', KEYS[2])}
