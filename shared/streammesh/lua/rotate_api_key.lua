#!lua flags=allow-oom
-- Gives a key's name another key, and the old ones a time to end, if they still are what was read.
-- KEYS[1] api_keys (HASH)  KEYS[2] revoked keys (ZSET)
-- ARGV[1] hash of the new key  ARGV[2] its record (JSON)  ARGV[3] now, ms  ARGV[4] how many revoked keys are remembered
-- then per old key: its hash, its record as read, its record with the time at which it ends ('' to end it now)
-- Returns 1 if it was done, 0 if a record had changed.
for i = 5, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
for i = 5, #ARGV, 3 do
  if ARGV[i + 2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[i])
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
