#!lua flags=allow-oom
-- Repairs a user whom a loss of data has set back: raises his version and sessions_from to what the feed knows, or deletes
-- him again. Another account of the same name is left alone.
-- KEYS  1 user  2 sessions of the user
-- ARGV  1 user id  2 version  3 sessions_from  4 1 if deleted
local user = redis.call('HMGET', KEYS[1], 'id', 'version', 'sessions_from')
if user[1] ~= ARGV[1] then return end
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[1], KEYS[2])
  return
end
if tonumber(user[2]) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'version', ARGV[2]) end
if tonumber(user[3]) < tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], 'sessions_from', ARGV[3]) end
