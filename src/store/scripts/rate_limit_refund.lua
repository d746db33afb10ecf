#!lua
-- Refunds a reserved attempt.
-- KEYS  1 bucket  2 mark of the network, if it becomes known
-- ARGV  1 interval (ms)  2 lifetime of the mark (ms)
if KEYS[2] then redis.call('SET', KEYS[2], '', 'PX', ARGV[2]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local full = (tonumber(redis.call('GET', KEYS[1]) or 0) or 0) - ARGV[1]
if full > now then redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', full - now)
else redis.call('DEL', KEYS[1]) end
