#!lua flags=allow-oom
-- Announces the window that a replica uses, before its view counts for the first time and each minute.
-- KEYS  1 windows  2 settled
-- ARGV  1 window (ms)
--
-- Where no window was ever announced, or all announcements are lost, the history is settled no longer: whoever counts in it
-- must announce his again. So the key has no lifetime, and is never empty.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - 300000))
