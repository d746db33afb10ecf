#!lua flags=allow-oom
-- Repairs a user after a loss of data: raises version and min_session_version to the feed's values, or deletes the user
-- again. Another account of the same name is left alone.
-- KEYS  1 user  2 sessions of the user
-- ARGV  1 user id  2 version  3 min_session_version  4 1 if deleted
local user = redis.call('HMGET', KEYS[1], 'id', 'version', 'min_session_version')
if user[1] ~= ARGV[1] then return end
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[1], KEYS[2])
  return
end
if tonumber(user[2]) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'version', ARGV[2]) end
if tonumber(user[3]) < tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], 'min_session_version', ARGV[3]) end
