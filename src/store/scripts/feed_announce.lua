#!lua flags=allow-oom
-- Announces the freshness window of a replica, before its view counts for the first time and then each minute.
-- KEYS  1 windows  2 stable since
-- ARGV  1 window (ms)
--
-- If no window was ever announced, or all announcements are lost, the history is no longer settled: every replica that
-- reads it must announce its window again. The key therefore has no lifetime, and is never empty.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - 300000))
