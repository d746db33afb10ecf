#!lua flags=allow-oom
-- Clears entries that the feed has taken from the outbox, and removes what they have revoked.
-- KEYS  1 outbox of the name  2 sessions of the user  3… sessions
-- ARGV  1… pairs of an entry and its sid; the n-th sid's record is KEYS[n + 2]
for i = 1, #ARGV, 2 do
  redis.call('SREM', KEYS[1], ARGV[i])
  redis.call('DEL', KEYS[(i - 1) / 2 + 3])
  redis.call('ZREM', KEYS[2], ARGV[i + 1])
end
