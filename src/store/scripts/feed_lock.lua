#!lua flags=allow-oom
-- Takes the short lock of those who put lost entries back, so that they do not all do it at once. Safety does not depend
-- on it: entries that are appended twice mean the same.
-- KEYS  1 lock
-- ARGV  1 who takes it  2 for how long (ms)
-- Returns 1 if taken or held already by the same, else 0.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
