#!lua flags=allow-oom
-- Removes entries that the feed has taken from the outbox, and deletes the sessions that they revoke.
-- KEYS  1 outbox of the name  2 sessions of the user  3… records of the sessions named in ARGV, in their order
-- ARGV  1… pairs of an entry and the sid that it revokes, or '' for an entry that names no session
local record = 3
for i = 1, #ARGV, 2 do
  redis.call('SREM', KEYS[1], ARGV[i])
  if ARGV[i + 1] ~= '' then
    redis.call('DEL', KEYS[record])
    redis.call('ZREM', KEYS[2], ARGV[i + 1])
    record = record + 1
  end
end
