-- Parks a queue entry that must never be run as a dead letter of its service: XACK is the gate.
-- KEYS[1] queue (STREAM)  KEYS[2] dead (HASH)  KEYS[3] dead index (ZSET)  KEYS[4] counters (HASH)
-- ARGV[1] group  ARGV[2] id  ARGV[3] dead letter id  ARGV[4] dead letter (JSON)  ARGV[5] dead letters kept
-- Returns 1 if this call parked it, 0 if it was not pending any more.
--#include _time.lua
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('ZADD', KEYS[3], digits(now_ms()), ARGV[3])
redis.call('HINCRBY', KEYS[4], 'parked', 1)
local over = redis.call('ZCARD', KEYS[3]) - tonumber(ARGV[5])
if over > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[3], over)
  for i = 1, #popped, 2 do redis.call('HDEL', KEYS[2], popped[i]) end
end
return 1
