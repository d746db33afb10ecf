#!lua
-- Writes a new hash of the same password, only over the hash that was verified. Changes no version.
-- KEYS  1 user
-- ARGV  1 user id seen  2 hash seen  3 new hash
-- Returns 1 if written, 0 if the account or its password is another one by now.
local user = redis.call('HMGET', KEYS[1], 'id', 'password')
if user[1] ~= ARGV[1] or user[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'password', ARGV[3])
return 1
