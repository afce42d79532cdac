#!lua flags=allow-oom
-- Ends API keys, and remembers them, so that none of them is stored again.
-- KEYS[1] api_keys (HASH)  KEYS[2] revoked keys (ZSET)  KEYS[3] their last uses (HASH)
-- ARGV[1] now, ms  ARGV[2] how many are remembered  then the hashes of the keys
-- Returns how many of them there were.
local ended = 0
for i = 3, #ARGV do
  ended = ended + redis.call('HDEL', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[3], ARGV[i])
  redis.call('ZADD', KEYS[2], ARGV[1], ARGV[i])
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[2]))
return ended
