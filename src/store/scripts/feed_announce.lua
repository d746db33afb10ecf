#!lua flags=allow-oom
-- Announces the window that a replica uses, before its view counts for the first time and each minute.
-- KEYS  1 windows
-- ARGV  1 window (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - 300000))
redis.call('PEXPIRE', KEYS[1], 300000)
